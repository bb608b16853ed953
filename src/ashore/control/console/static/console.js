// The console works without this file. It keeps the page while a form is sent, shows the command of a form as it is filled in,
// brings Home up to date, copies, places menus, reads charts, and jumps by a palette. `chat.js` is the page Chat. No eval, no
// inline code, no other host.
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
      if (where) { // to log in again, or to the thing that was made or moved
        if (answer.status === 401) keep(form);
        location.assign(new URL(where, form.action));
        return;
      }
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
  const later = () => refreshIn(Number(place()?.dataset.live) || (hears ? SELDOM : ALONE) * (0.75 + Math.random() / 2));
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
        if (fresh && at.isConnected) {
          at.dataset.live = fresh.dataset.live; // how many milliseconds it waits, where something is under way
          at.replaceChildren(...fresh.childNodes);
          at.querySelectorAll(".plot").forEach(reads);
        }
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

  // A button copies what is in another place, or what it carries itself.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy],[data-copy-text]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy ?? "");
    try {
      await navigator.clipboard.writeText(button.dataset.copyText ?? source.textContent);
      say(document.body.dataset.copied ?? "");
    } catch { // no clipboard over plain HTTP: select it instead
      getSelection().selectAllChildren(source ?? button.parentElement);
    }
  });

  // A menu stands beside its button, inside the window.
  document.addEventListener("toggle", (event) => {
    const menu = event.target;
    if (event.newState !== "open" || !menu.matches?.(".menu[popover]")) return;
    const at = document.querySelector(`[popovertarget="${CSS.escape(menu.id)}"]`).getBoundingClientRect();
    menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - menu.offsetWidth - 8))}px`;
    menu.style.top = `${Math.max(8, Math.min(at.bottom + 4, innerHeight - menu.offsetHeight - 8))}px`;
  }, true);

  // The palette: a list of links, narrowed by what is typed.
  const palette = document.querySelector("dialog.pal");
  if (palette) {
    const box = palette.querySelector("input");
    const all = [...palette.querySelectorAll("li")];
    const shown = () => all.filter((one) => !one.hidden);
    const mark = (at) => {
      all.forEach((one) => one.firstElementChild.classList.remove("on"));
      const one = shown()[at]?.firstElementChild;
      one?.classList.add("on");
      one?.scrollIntoView({ block: "nearest" });
    };
    const narrow = () => {
      const words = box.value.toLowerCase().split(/\s+/);
      for (const one of all) one.hidden = !words.every((word) => one.textContent.toLowerCase().includes(word));
      mark(0);
    };
    const open = () => { if (!palette.open) { palette.showModal(); box.select(); narrow(); } };
    box.addEventListener("input", narrow);
    document.querySelector("[data-palette]").addEventListener("click", open);
    palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
    palette.addEventListener("keydown", (event) => {
      const links = shown(), at = links.findIndex((one) => one.querySelector(".on"));
      if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); mark((at + (event.key === "ArrowDown" ? 1 : links.length - 1)) % links.length); }
      if (event.key === "Enter" && links[at]) { event.preventDefault(); links[at].firstElementChild.click(); }
    });
    addEventListener("keydown", (event) => {
      const types = /INPUT|TEXTAREA|SELECT/.test(event.target.tagName);
      if ((event.key === "k" && (event.metaKey || event.ctrlKey)) || (event.key === "/" && !types)) { event.preventDefault(); open(); }
    });
  }

  // A chart says its figures under the pointer.
  const reads = (plot) => {
    const svg = plot.querySelector("svg"), lines = [...plot.querySelectorAll("[data-figures]")];
    const figures = lines.map((one) => one.dataset.figures.split("|"));
    const tip = document.createElement("div"), cross = document.createElementNS(svg.namespaceURI, "path");
    tip.className = "tip";
    cross.classList.add("cross");
    plot.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), last = figures[0].length - 1;
      const at = Math.max(0, Math.min(last, Math.round((event.clientX - box.left) / box.width * last)));
      const x = at / Math.max(1, last);
      tip.textContent = lines.map((one, which) => `${one.dataset.name}  ${figures[which][at]}`).join("\n");
      cross.setAttribute("d", `M${x * 600} 0V200`);
      if (!tip.isConnected) { plot.append(tip); svg.append(cross); }
      tip.style.left = `${x * box.width + (x > 0.5 ? -tip.offsetWidth - 10 : 10)}px`;
    });
    plot.addEventListener("pointerleave", () => { tip.remove(); cross.remove(); });
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
    main.querySelectorAll(".plot").forEach(reads);
    for (const form of main.querySelectorAll("form[data-passkey]")) passkey(form);
    for (const form of main.querySelectorAll("form[data-swap]")) {
      form.addEventListener("submit", (event) => { event.preventDefault(); swap(form, event.submitter); });
    }
    for (const form of main.querySelectorAll("form[data-command]")) showCommand(form);
    later();
  };

  // The link of an invitation carries its code behind `#`, which is sent to nobody.
  const code = document.getElementById("d-invitation");
  if (code && location.hash.length > 1) {
    code.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
    document.getElementById("d-new_password")?.focus();
  }

  window.ashore = { root, csrf, say, keep }; // for the script of a page
  const tab = main?.querySelector(".tabs [aria-current]");
  if (tab) tab.closest(".tabs").scrollLeft = tab.offsetLeft - innerWidth / 3;
  if (main) { bring(); wire(); }
  if (place()) follow();
})();
