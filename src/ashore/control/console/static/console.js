// The console works without this file, but for Chat. It keeps the page while a form is sent, shows the command of a form as
// it is filled in, brings Home up to date, copies, and talks to models. No eval, no inline code, no other host.
"use strict";
(() => {
  const root = document.body.dataset.root ?? "";
  const csrf = document.body.dataset.csrf ?? "";
  const main = document.getElementById("main");
  const status = document.getElementById("status");

  const say = (text) => {
    if (!status) return;
    status.textContent = text;
    setTimeout(() => { if (status.textContent === text) status.textContent = ""; }, 4000);
  };
  const lost = () => say(document.body.dataset.lost ?? "");

  const put = (html) => {
    const parsed = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html");
    main.replaceChildren(...parsed.querySelector("main").childNodes);
    wire();
    (main.querySelector("[data-focus]") ?? main.querySelector("[role=alert]") ?? main).focus?.();
  };

  // What was typed outlives a session that ended: it stays in this tab, without secrets, until its page is open again.
  const KEPT = "ashore-typed";
  const keep = (place) => {
    const boxes = [...place.querySelectorAll("input:not([type=hidden]):not([type=password]),select,textarea")];
    const typed = boxes.filter((one) => one.id || one.name).map((one) => [one.id, one.name, one.type === "checkbox" ? [one.value, one.checked] : one.value]);
    try { sessionStorage.setItem(KEPT, JSON.stringify({ at: location.pathname, typed })); } catch { /* no room: it is typed again */ }
  };
  const bring = () => {
    let kept = null;
    try { kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null"); } catch { return; }
    if (!kept || kept.at !== location.pathname || !main || document.body.classList.contains("plain")) return;
    sessionStorage.removeItem(KEPT);
    for (const [id, name, value] of kept.typed) {
      const all = [...main.querySelectorAll("input:not([type=hidden]):not([type=password]),select,textarea")];
      const box = all.find((one) => Array.isArray(value) ? one.name === name && one.value === value[0] : id ? one.id === id : one.name === name);
      if (!box) continue;
      if (Array.isArray(value)) box.checked = value[1]; else box.value = value;
    }
  };

  // Sends a form and shows the answer where the form was. Whoever must log in again comes back to the same form.
  const swap = async (form, button) => {
    const body = new URLSearchParams(new FormData(form));
    main.classList.add("busy");
    if (button) button.disabled = true;
    try {
      const answer = await fetch(form.action, {
        method: "POST", body, headers: { "x-console-part": "main" }, redirect: "manual",
      });
      const where = answer.headers.get("location");
      if (answer.status === 401 && where) { keep(form); location.assign(new URL(where, form.action)); return; }
      const kind = answer.headers.get("content-type") ?? "";
      if (!kind.startsWith("text/html")) { form.submit(); return; }
      put(await answer.text());
    } catch { lost(); } finally {
      main.classList.remove("busy");
      if (button) button.disabled = false;
    }
  };

  const showCommand = (form) => {
    const target = document.getElementById(form.dataset.command);
    let waiting = 0;
    const ask = async () => {
      const fields = new URLSearchParams(new FormData(form));
      fields.delete("csrf");
      const at = form.dataset.commandAt ?? form.getAttribute("action");
      try {
        const answer = await fetch(at, { method: "POST", body: fields, headers: { "x-console-part": "command", "x-csrf-token": csrf } });
        if (answer.ok) target.textContent = await answer.text();
      } catch { lost(); }
    };
    form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(ask, 250); });
  };

  // Brings what is marked as live up to date when something happens, and seldom otherwise. Nothing is asked for a tab
  // that nobody sees.
  const REST = 2000, SETTLE = 150, SELDOM = 120000, ALONE = 15000;
  const begun = performance.now();
  let timer = 0, due = Infinity, asked = 0, hears = true;
  const tags = new WeakMap();
  const place = () => main?.querySelector("[data-live]");
  const forget = () => { clearTimeout(timer); due = Infinity; };
  const refreshIn = (ms) => {
    const now = performance.now(), at = Math.max(now + ms, asked && asked + REST);
    if (document.hidden || !place() || at >= due) return; // what comes sooner counts, or a stream of events would put it off
    clearTimeout(timer);
    due = at;
    timer = setTimeout(refresh, at - now);
  };
  const later = () => refreshIn((hears ? SELDOM : ALONE) * (0.75 + Math.random() / 2));
  const happened = () => refreshIn(SETTLE + Math.random() * REST / 2);
  const refresh = async () => {
    const at = place();
    forget();
    if (!at || document.hidden) return;
    asked = performance.now();
    if (at.contains(document.activeElement)) { refreshIn(REST); return; }
    try {
      const tag = tags.get(at);
      const answer = await fetch(location.href, { headers: { "x-console-part": "main", "x-console-poll": "1", ...(tag && { "if-none-match": tag }) } });
      if (answer.status === 401) return;
      if (answer.status === 200) {
        tags.set(at, answer.headers.get("etag") ?? "");
        const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = parsed.querySelector("[data-live]");
        if (fresh && at.isConnected) { at.replaceChildren(...fresh.childNodes); copies(at); }
      }
    } catch { /* the next one may succeed */ }
    later();
  };

  // One tab listens to the server for all of this browser, one that is seen: six streams would take every connection that
  // HTTP/1.1 has.
  const follow = () => {
    if (!navigator.locks || !window.EventSource || !window.BroadcastChannel) { hears = false; return; }
    const channel = new BroadcastChannel("ashore-events");
    const hear = (what) => {
      hears = what !== "lost";
      if (!hears) later();
      else if (what === "happened" || performance.now() - begun > REST) happened(); // nobody listened before it was open
    };
    const tell = (what) => { channel.postMessage(what); hear(what); };
    channel.addEventListener("message", (event) => hear(event.data));
    let stop = null;
    const listen = () => {
      stop = new AbortController();
      const { signal } = stop;
      navigator.locks.request("ashore-events", { signal }, () => new Promise((free) => {
        const source = new EventSource(new URL(`${root}events`, location.href));
        const end = () => { source.close(); free(); };
        source.addEventListener("open", () => tell("open"));
        source.addEventListener("message", () => tell("happened"));
        source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) { tell("lost"); setTimeout(end, 30000); } });
        signal.addEventListener("abort", end);
      })).then(() => { if (!signal.aborted) listen(); }, () => { /* nobody sees this tab any more */ });
    };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { stop?.abort(); forget(); } else { listen(); refreshIn(SETTLE); }
    });
    addEventListener("pagehide", () => stop?.abort());
    if (!document.hidden) listen();
  };

  const copies = (place) => {
    for (const button of place.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copy);
        try {
          await navigator.clipboard.writeText(source.textContent);
          say(document.body.dataset.copied ?? "");
        } catch { // no clipboard over plain HTTP: select it instead
          getSelection().selectAllChildren(source);
        }
      });
    }
  };

  // A passkey: what the page asks goes to the browser's authenticator, and what that gives into the form.
  const raw = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
  const coded = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  const passkey = (form) => form.addEventListener("submit", async (event) => {
    const box = form.querySelector("[name=credential]");
    if (box.value) return;
    event.preventDefault();
    const asked = JSON.parse(form.dataset.passkey);
    asked.challenge = raw(asked.challenge);
    for (const one of [...(asked.allowCredentials ?? []), ...(asked.excludeCredentials ?? [])]) one.id = raw(one.id);
    if (asked.user) asked.user.id = raw(asked.user.id);
    try {
      const { id, response } = await (asked.user ? navigator.credentials.create({ publicKey: asked }) : navigator.credentials.get({ publicKey: asked }));
      const sent = { id, clientData: coded(response.clientDataJSON) };
      if (asked.user) sent.attestation = coded(response.attestationObject);
      else Object.assign(sent, { authenticatorData: coded(response.authenticatorData), signature: coded(response.signature) });
      box.value = JSON.stringify(sent);
      form.submit();
    } catch { form.querySelector("[role=alert]").textContent = form.dataset.failed; }
  });

  const wire = () => {
    copies(main);
    for (const form of main.querySelectorAll("form[data-passkey]")) passkey(form);
    for (const form of main.querySelectorAll("form[data-swap]")) {
      form.addEventListener("submit", (event) => { event.preventDefault(); swap(form, event.submitter); });
    }
    for (const form of main.querySelectorAll("form[data-command]")) showCommand(form);
    later();
    const chat = document.getElementById("chat");
    if (chat) talk(chat);
  };

  // --- Chat

  const talk = (chat) => {
    const words = chat.dataset;
    const prompt = chat.querySelector("#prompt");
    const send = chat.querySelector("#send");
    const stop = chat.querySelector("#stop");
    const panes = [...chat.querySelectorAll(".pane")].map((pane, at) => ({
      pane, log: pane.querySelector(".log"), choice: chat.querySelector(at ? "#right" : "#left"), said: [],
    }));
    let under = null;

    const shown = () => panes.filter((one) => one.choice.value);
    const arrange = () => { panes[1].pane.hidden = !panes[1].choice.value; code(); };
    const parameters = () => Object.fromEntries([...chat.querySelectorAll("[data-parameter]")]
      .filter((box) => box.value.trim() && Number.isFinite(Number(box.value))).map((box) => [box.dataset.parameter, Number(box.value)]));
    const bodyOf = (one) => {
      const system = chat.querySelector("#p-system").value.trim();
      return { model: one.choice.value, messages: [...(system ? [{ role: "system", content: system }] : []), ...one.said], ...parameters() };
    };
    const line = (one, text, kind) => {
      const place = document.createElement("div");
      place.className = `said ${kind}`;
      place.textContent = text;
      one.log.append(place);
      return place;
    };

    // Up, down or a correction under an answer, where this server takes votes. Pressed again, a vote is taken back.
    const votes = (one, id, said) => {
      const form = chat.querySelector("#vote");
      if (!form) return;
      const place = form.content.firstElementChild.cloneNode(true);
      const [result, fix, boxes] = [place.querySelector("[role=status]"), place.querySelector("form"), place.querySelectorAll("[data-rating]")];
      const open = place.querySelector("[data-fix]");
      const show = (on) => { fix.hidden = !on; open.setAttribute("aria-expanded", String(on)); };
      const send = async (vote) => {
        result.className = "small";
        try {
          const got = await fetch(`${root}vote`, {
            method: "POST", headers: { "content-type": "application/json", "x-csrf-token": csrf }, body: JSON.stringify({ id, ...vote }),
          });
          const kept = await got.json();
          if (!got.ok) throw new Error([kept.error?.message, kept.error?.hint].filter(Boolean).join(" · "));
          for (const box of boxes) box.setAttribute("aria-pressed", String(box.dataset.rating === kept.rating));
          result.textContent = form.dataset[!kept.rating ? "back" : kept.learns ? "learns" : "alone"];
          if (vote.correction) show(false);
        } catch (problem) {
          result.className = "wrong";
          result.textContent = problem.message;
        }
      };
      for (const box of boxes) {
        box.addEventListener("click", () => send({ rating: box.getAttribute("aria-pressed") === "true" ? null : box.dataset.rating }));
      }
      open.addEventListener("click", () => {
        show(fix.hidden);
        const text = fix.querySelector("textarea");
        text.value ||= said;
        if (!fix.hidden) text.focus();
      });
      fix.addEventListener("submit", (event) => { event.preventDefault(); send({ correction: fix.querySelector("textarea").value }); });
      one.log.append(place);
    };

    const answer = async (one, signal) => {
      const place = line(one, "", "model");
      const thought = document.createElement("span");
      const text = document.createElement("span");
      thought.className = "reasoning";
      place.append(thought, text);
      const facts = document.createElement("p");
      facts.className = "metrics";
      one.log.append(facts);
      const began = performance.now();
      let first = 0, usage = null, request = "", cached = "", broke = "", id = "";
      try {
        const got = await fetch(`${root}ask`, {
          method: "POST", signal, headers: { "content-type": "application/json", "x-csrf-token": csrf },
          body: JSON.stringify({ ...bodyOf(one), stream: true, stream_options: { include_usage: true } }),
        });
        request = got.headers.get("x-request-id") ?? "";
        cached = got.headers.get("x-ashore-cache") ?? "";
        if (!got.ok) {
          const problem = await got.json().catch(() => null);
          if (got.status === 401) { prompt.value = one.said.findLast((said) => said.role === "user").content; keep(chat); location.reload(); return; }
          throw new Error([problem?.error?.message, problem?.error?.hint].filter(Boolean).join(" · ") || `HTTP ${got.status}`);
        }
        const reader = got.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          rest += value;
          const lines = rest.split("\n");
          rest = lines.pop();
          for (const one of lines) {
            if (!one.startsWith("data: ") || one === "data: [DONE]") continue;
            const event = JSON.parse(one.slice(6));
            if (event.error) throw new Error(event.error.message);
            usage = event.usage ?? usage;
            id = event.id ?? id;
            const delta = event.choices?.[0]?.delta ?? {};
            if (!first && (delta.content || delta.reasoning_content)) first = performance.now();
            if (delta.reasoning_content) thought.textContent += delta.reasoning_content;
            if (delta.content) text.textContent += delta.content;
          }
        }
      } catch (problem) {
        broke = problem.name === "AbortError" ? words.stopped : problem.message;
      }
      const seconds = (performance.now() - (first || began)) / 1000;
      const count = usage?.completion_tokens ?? 0;
      const known = first ? [words.first.replace("{first}", Math.round(first - began))] : [];
      if (usage) { // comes at the end: of an answer that was stopped the server counts, and says nothing
        known.push(words.facts.replace("{tokens}", `${usage.prompt_tokens} + ${count}`)
          .replace("{rate}", count > 1 && seconds > 0 ? ((count - 1) / seconds).toFixed(1) : "–"));
      }
      facts.textContent = known.join(" · ");
      if (cached.startsWith("hit")) facts.append(` · ${words.cached}`);
      if (request) {
        const link = document.createElement("a");
        link.href = `${root}call/audit/request?request=${encodeURIComponent(request)}`;
        link.textContent = words.find;
        facts.append(" · ", link, ` ${request}`);
      }
      if (broke) line(one, broke, "wrong").setAttribute("role", "alert");
      if (text.textContent) one.said.push({ role: "assistant", content: text.textContent });
      if (text.textContent && id && !broke) votes(one, id, text.textContent);
      return broke;
    };

    chat.querySelector("#ask").addEventListener("submit", async (event) => {
      event.preventDefault();
      const question = prompt.value.trim();
      if (!question || under) return;
      under = new AbortController();
      prompt.value = "";
      send.disabled = true;
      stop.hidden = false;
      for (const one of shown()) { one.said.push({ role: "user", content: question }); line(one, question, "you"); }
      code();
      const broke = await Promise.all(shown().map((one) => answer(one, under.signal)));
      under = null;
      send.disabled = false;
      stop.hidden = true;
      say(broke.find(Boolean) ?? words.done);
      prompt.focus();
    });
    prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send.click(); }
    });
    stop.addEventListener("click", () => under?.abort());
    chat.querySelector("#again").addEventListener("click", () => {
      under?.abort();
      for (const one of panes) { one.said = []; one.log.replaceChildren(); }
      prompt.focus();
    });
    for (const one of panes) one.choice.addEventListener("change", arrange);
    chat.addEventListener("input", () => code());

    const base = location.href.replace(/\/console\/.*$/, "");
    const quoted = (text) => `'${text.replaceAll("'", `'"'"'`)}'`;
    const code = () => {
      const body = bodyOf(panes[0]);
      if (prompt.value.trim()) body.messages = [...body.messages, { role: "user", content: prompt.value.trim() }];
      if (!body.messages.length) body.messages = [{ role: "user", content: "Hello" }];
      const { model, messages, ...rest } = body;
      const python = Object.entries(rest).map(([name, value]) => `, ${name}=${JSON.stringify(value)}`).join("");
      const system = messages.filter((one) => one.role === "system").map((one) => one.content).join("\n");
      const turns = messages.filter((one) => one.role !== "system");
      const { max_tokens: most = 256, seed, ...others } = rest;
      const anthropic = Object.entries(others).map(([name, value]) => `, ${name}=${JSON.stringify(value)}`).join("");
      const put = (name, text) => { document.getElementById(`code-${name}`).textContent = text; };
      put("curl", `curl ${base}/v1/chat/completions \\\n  -H "Authorization: Bearer $ASHORE_API_KEY" -H "Content-Type: application/json" \\\n  -d ${quoted(JSON.stringify(body))}`);
      put("python", `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${JSON.stringify(`${base}/v1`)}, api_key=os.environ["ASHORE_API_KEY"])\nanswer = client.chat.completions.create(model=${JSON.stringify(model)}, messages=${JSON.stringify(messages)}${python})\nprint(answer.choices[0].message.content)`);
      put("anthropic", `import os\nfrom anthropic import Anthropic\n\nclient = Anthropic(base_url=${JSON.stringify(base)}, api_key=os.environ["ASHORE_API_KEY"])\nanswer = client.messages.create(model=${JSON.stringify(model)}, max_tokens=${most}, messages=${JSON.stringify(turns)}${system ? `, system=${JSON.stringify(system)}` : ""}${anthropic})\nprint(answer.content[0].text)`);
      put("shell", `ashore chat --url ${base} ${quoted(model)}`);
    };
    arrange();
  };

  if (main) { bring(); wire(); }
  if (place()) follow();
})();
