// The page Chat: asks models, shows their answers as they come (`markdown.js`), and lets a person edit, ask again and compare.
"use strict";
(() => {
  const chat = document.getElementById("chat");
  if (!chat || !window.ashore) return;
  const { root, csrf, say, keep } = window.ashore;
  const words = chat.dataset;
  const find = (what, place = chat) => place.querySelector(what);
  const [thread, prompt, send, stop, end, wrong] = [".thread", "#prompt", "#send", "#stop", "#end", ".write .wrong"].map((what) => find(what));
  const sides = [find("#left"), find("#right")], assistant = find("#assistant");
  const MOST_FILE = 262144, MOST_FILES = 5;
  const at = `${root}ask/conversations`, kept = find("#kept"), acts = find("#acts"), kinds = JSON.parse(words.kinds);
  let turns = [], files = [], under = null, conversation = "", title = "", saving = Promise.resolve();

  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); } catch { // no clipboard over plain HTTP
      const box = document.createElement("textarea");
      box.value = text;
      chat.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
    say(words.copied);
  };
  const grow = (box) => { box.style.height = "auto"; box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight * 0.4)}px`; };
  const fit = () => { chat.style.height = `${Math.max(420, innerHeight - (chat.getBoundingClientRect().top + scrollY) - 12)}px`; };

  // --- The end stays in view while an answer grows, until the reader scrolls up.

  let follows = true, top = 0;
  const toEnd = () => { if (follows) { thread.scrollTop = thread.scrollHeight; top = thread.scrollTop; } };
  const stay = (on) => { follows = on; end.hidden = on; };
  thread.addEventListener("scroll", () => {
    const left = thread.scrollHeight - thread.clientHeight - thread.scrollTop;
    if (left < 24) stay(true); else if (thread.scrollTop < top - 2) stay(false);
    top = thread.scrollTop;
  }, { passive: true });
  end.addEventListener("click", () => { stay(true); toEnd(); });

  // --- What is kept: each question when it is asked, each answer when it ends, in that order

  const newId = () => `msg_${[...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("")}`;
  const api = async (method, path, body) => {
    const got = await fetch(`${at}${path}`, { method, headers: { "content-type": "application/json", "x-csrf-token": csrf }, body: body && JSON.stringify(body) });
    const answer = await got.json().catch(() => null);
    if (!got.ok) throw new Error(answer?.error?.message || `HTTP ${got.status}`);
    return answer;
  };
  const save = (work) => {
    if (!kept) return;
    saving = saving.then(work).catch((problem) => say(words.unkept.replace("{why}", problem.message)));
  };
  const is = (id, name) => {
    [conversation, title] = [id, name];
    acts.hidden = !id;
    acts.open = false;
    find("#title").value = name;
    find("#delete").textContent = find("#delete").dataset.word ??= find("#delete").textContent;
    history.replaceState(null, "", id ? `?c=${id}` : location.pathname);
    for (const one of kept.querySelectorAll("a")) if (one.dataset.id === id) { one.setAttribute("aria-current", "true"); one.textContent = name || words.untitled; } else one.removeAttribute("aria-current");
  };
  const list = (id, name) => {
    const item = document.createElement("li"), link = document.createElement("a");
    [link.href, link.dataset.id, link.textContent] = [`?c=${id}`, id, name];
    item.append(link);
    kept.prepend(item);
    is(id, name);
  };
  const keepItems = (items, name) => save(async () => {
    if (conversation) await api("POST", `/${conversation}/items`, { items });
    else list((await api("POST", "", { metadata: { title: name }, items })).id, name);
  });
  const keepTurn = (turn) => {
    turn.item = newId();
    const content = [...turn.files.map((one) => one.told ?? fileText(one)), turn.text].filter(Boolean).map((text) => ({ type: "input_text", text }));
    keepItems([{ type: "message", role: "user", id: turn.item, content }], (turn.text || turn.files[0].name).split("\n")[0].slice(0, 80));
  };
  const keepAnswers = (turn) => {
    const items = turn.answers.filter((one) => one?.text).map((one) => {
      const { side, by, masked, reasoning } = one;
      one.item = newId();
      return { type: "message", role: "assistant", id: one.item, content: [{ type: "output_text", text: one.text, annotations: [{ type: "ashore", side, by, masked, reasoning: reasoning.slice(0, 20000) }] }] };
    });
    if (items.length) keepItems(items, title);
  };
  const opened = async (id) => {
    const { metadata } = await api("GET", `/${id}`);
    for (let after = ""; ;) {
      const page = await api("GET", `/${id}/items?order=asc&limit=100${after && `&after=${after}`}`);
      for (const item of page.data.filter((one) => one.type === "message")) {
        const texts = item.content.map((one) => one.text ?? ""), note = item.content[0]?.annotations?.find?.((one) => one?.type === "ashore") ?? {};
        if (item.role === "user") addTurn(texts.at(-1), texts.slice(0, -1).map(fileOf)).item = item.id;
        else if (item.role === "assistant" && turns.length) {
          const one = addAnswer(turns.at(-1), note.side === 1 ? 1 : 0, String(note.by ?? ""));
          Object.assign(one, { item: item.id, text: texts.join("\n\n"), reasoning: String(note.reasoning ?? ""), masked: String(note.masked ?? "") });
          ended(one, []);
        }
      }
      if (!page.has_more) break;
      after = page.last_id;
    }
    is(id, metadata.title ?? "");
    stay(true);
    toEnd();
  };
  const download = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  if (kept) {
    find("#rename").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = find("#title").value.trim();
      save(async () => { await api("POST", `/${conversation}`, { metadata: { title: name } }); is(conversation, name); });
    });
    find("#delete").addEventListener("click", ({ target }) => {
      if (target.textContent !== words.sure) { target.textContent = words.sure; return; }
      const id = conversation;
      under?.abort();
      save(async () => {
        await api("DELETE", `/${id}`);
        kept.querySelector(`[data-id="${id}"]`)?.parentNode.remove();
        fresh();
      });
    });
    for (const button of acts.querySelectorAll("[data-save]")) {
      button.addEventListener("click", () => {
        const said = turns.flatMap((turn) => [{ role: "user", text: whole(turn) }, ...turn.answers.filter(Boolean).map(({ text, by }) => ({ role: "assistant", model: by, text }))]);
        const name = (title || words.untitled).replace(/[^\p{L}\p{N} _-]/gu, "").slice(0, 60);
        if (button.dataset.save === "json") download(`${name}.json`, "application/json", JSON.stringify({ title, messages: said }, null, 2));
        else download(`${name}.md`, "text/markdown", `# ${title}\n\n${said.map((one) => `## ${one.model ?? find("#turn").content.querySelector("h2").textContent}\n\n${one.text}\n`).join("\n")}`);
      });
    }
    find("#list").addEventListener("click", ({ currentTarget }) => currentTarget.setAttribute("aria-expanded", String(find("#past").classList.toggle("open"))));
  }

  // --- Turns

  const made = (id) => find(id).content.firstElementChild.cloneNode(true);
  const fileText = (one) => `${words.file.replace("{name}", one.name)}\n\`\`\`\n${one.text}\n\`\`\``;
  const fileOf = (text) => ({ name: text.slice(0, text.indexOf("\n")), text: text.slice(text.indexOf("\n") + 5, -4), told: text });
  const whole = (turn) => [...turn.files.map((one) => one.told ?? fileText(one)), turn.text].filter(Boolean).join("\n\n");
  const addTurn = (text, added) => {
    const turn = { text, files: added, answers: [], node: made("#turn") };
    const place = find(".text", turn.node);
    for (const one of added) {
      const shown = document.createElement("details"), name = document.createElement("summary"), body = document.createElement("pre");
      [name.textContent, body.textContent, body.tabIndex] = [one.name, one.text, 0];
      shown.append(name, body);
      place.append(shown);
    }
    place.append(text);
    find("[data-act=edit]", turn.node).addEventListener("click", () => edit(turn, true));
    find("[data-act=leave]", turn.node).addEventListener("click", () => edit(turn, false));
    find(".edit", turn.node).addEventListener("submit", (event) => {
      event.preventDefault();
      const again = find(".edit textarea", turn.node).value.trim();
      if (again && !under) { cut(turns.indexOf(turn)); ask(again, turn.files); }
    });
    turns.push(turn);
    thread.append(turn.node);
    return turn;
  };
  const edit = (turn, on) => {
    const form = find(".edit", turn.node), box = find("textarea", form);
    form.hidden = !on;
    find(".text", turn.node).hidden = find(".tools", turn.node).hidden = on;
    if (on) { box.value = turn.text; grow(box); box.focus(); }
  };
  const cut = (from) => {
    for (const turn of turns.splice(from)) {
      turn.node.remove();
      for (const one of [turn, ...turn.answers]) if (one?.item) save(() => api("DELETE", `/${conversation}/items/${one.item}`));
    }
  };
  const fresh = () => {
    under?.abort();
    for (const one of turns.splice(0)) one.node.remove();
    if (kept) is("", "");
    attach([]);
    prompt.focus();
  };

  // Of a long conversation, answers far from the window are kept as text alone and drawn again when they come near.
  const shownOf = new WeakMap(), labels = { copy: words.copyWord, plain: words.plain, picture: words.picture };
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      const one = shownOf.get(target);
      if (isIntersecting && !target.firstChild) { target.append(...markdown.render(one.text, labels)); target.style.minHeight = ""; }
      else if (!isIntersecting && turns.length > 30 && target.firstChild && !one.node.hasAttribute("aria-busy")) {
        target.style.minHeight = `${target.offsetHeight}px`;
        target.replaceChildren();
      }
    }
  }, { root: thread, rootMargin: "2500px" });

  // Draws what came of an answer: some 20 times a second, and for a seventh of the time at most, so that scrolling stays smooth.
  const addAnswer = (turn, side, model) => {
    const node = made("#answer"), shown = find(".md", node), think = find(".think", node);
    const one = { side, by: model, text: "", reasoning: "", node, masked: "" };
    const show = markdown.growing(shown, labels);
    let waits = false, due = 0, drawn = 0;
    one.draw = () => {
      const began = performance.now();
      if (one.reasoning && !drawn) {
        think.hidden = false;
        find("summary", think).textContent = one.text ? words.thought : words.thinking;
        find("div", think).textContent = one.reasoning;
      }
      if (one.text.length !== drawn) { find("summary", think).textContent = words.thought; show(one.text); drawn = one.text.length; }
      toEnd();
      due = performance.now() + Math.max(45, 6 * (performance.now() - began));
    };
    const step = (now) => { if (now < due) requestAnimationFrame(step); else { waits = false; one.draw(); } };
    one.soon = () => { if (!waits) { waits = true; requestAnimationFrame(step); } };
    node.setAttribute("aria-busy", "true");
    find(".by", node).textContent = model;
    find("[data-act=copy]", node).addEventListener("click", () => copy(one.text));
    find("[data-act=retry]", node).addEventListener("click", () => { if (!under) { const { text, files: added } = turn; cut(turns.indexOf(turn)); ask(text, added); } });
    find(".answers", turn.node).append(node);
    turn.answers[side] = one;
    return one;
  };
  const ended = (one, facts) => {
    one.draw();
    one.node.removeAttribute("aria-busy");
    const place = find(".md", one.node);
    shownOf.set(place, one);
    near.observe(place);
    const hidden = find(".masked", one.node), found = one.masked.split(",").map((pair) => pair.split("=")).filter(([, count]) => count);
    hidden.hidden = !found.length;
    hidden.textContent = words.masked.replace("{kinds}", found.map(([kind, count]) => `${count} ${kinds[kind] ?? kind}`).join(", "));
    find(".tools", one.node).hidden = !one.text;
    find(".metrics", one.node).append(...facts.flatMap((fact, at) => (at ? [" · ", fact] : [fact])));
    toEnd();
  };
  const parameters = () => Object.fromEntries([...chat.querySelectorAll("[data-parameter]")]
    .filter((box) => box.value.trim() && Number.isFinite(Number(box.value))).map((box) => [box.dataset.parameter, Number(box.value)]));
  const bodyOf = (side, before = turns) => {
    const system = assistant?.selectedOptions[0].dataset.prompt ?? find("#p-system").value.trim(), messages = system ? [{ role: "system", content: system }] : [];
    for (const turn of before) {
      messages.push({ role: "user", content: whole(turn) });
      const said = (turn.answers[side] ?? turn.answers[0])?.text;
      if (said) messages.push({ role: "assistant", content: said });
    }
    return { model: sides[side].value, messages, ...parameters() };
  };

  const answer = async (turn, side, signal) => {
    const body = bodyOf(side);
    const one = addAnswer(turn, side, body.model);
    const began = performance.now();
    let first = 0, usage = null, request = "", cached = "", broke = "", id = "";
    try {
      const got = await fetch(`${root}ask`, {
        method: "POST", signal, headers: { "content-type": "application/json", "x-csrf-token": csrf },
        body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      });
      request = got.headers.get("x-request-id") ?? "";
      cached = got.headers.get("x-ashore-cache") ?? "";
      one.masked = got.headers.get("x-ashore-masked") ?? "";
      const release = got.headers.get("x-ashore-release") ?? "";
      if (release && release !== body.model) find(".by", one.node).textContent = one.by = `${body.model} · ${release}`;
      if (!got.ok) {
        const problem = await got.json().catch(() => null);
        if (got.status === 401) { prompt.value = turn.text; keep(chat); location.reload(); return ""; }
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
        for (const line of lines) {
          if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
          const event = JSON.parse(line.slice(6));
          if (event.error) throw new Error(event.error.message);
          usage = event.usage ?? usage;
          id = event.id ?? id;
          const delta = event.choices?.[0]?.delta ?? {};
          if (!first && (delta.content || delta.reasoning_content)) first = performance.now();
          one.reasoning += delta.reasoning_content ?? "";
          one.text += delta.content ?? "";
        }
        one.soon();
      }
    } catch (problem) {
      broke = problem.name === "AbortError" ? words.stopped : problem.message;
    }
    const seconds = (performance.now() - (first || began)) / 1000, count = usage?.completion_tokens ?? 0;
    const facts = first ? [words.first.replace("{first}", Math.round(first - began))] : [];
    if (usage) { // comes at the end: of an answer that was stopped the server counts, and says nothing
      facts.push(words.facts.replace("{tokens}", `${usage.prompt_tokens} + ${count}`).replace("{rate}", count > 1 && seconds > 0 ? ((count - 1) / seconds).toFixed(1) : "–"));
    }
    if (cached.startsWith("hit")) facts.push(words.cached);
    if (request) {
      const link = document.createElement("a");
      [link.href, link.textContent, link.title] = [`${root}call/audit/request?request=${encodeURIComponent(request)}`, request, words.find];
      facts.push(link);
    }
    const problem = find(".wrong", one.node);
    [problem.hidden, problem.textContent] = [!broke, broke];
    ended(one, facts);
    if (one.text && id && !broke) votes(one, id);
    return broke;
  };

  // Up, down or a correction under an answer, where this server takes votes. Pressed again, a vote is taken back.
  const votes = (one, id) => {
    const form = find("#vote");
    if (!form) return;
    const place = made("#vote");
    const [result, fix, boxes, open] = [find("[role=status]", place), find("form", place), place.querySelectorAll("[data-rating]"), find("[data-fix]", place)];
    const show = (on) => { fix.hidden = !on; open.setAttribute("aria-expanded", String(on)); };
    const vote = async (what) => {
      result.className = "xs faint";
      try {
        const got = await fetch(`${root}vote`, {
          method: "POST", headers: { "content-type": "application/json", "x-csrf-token": csrf }, body: JSON.stringify({ id, ...what }),
        });
        const kept = await got.json();
        if (!got.ok) throw new Error([kept.error?.message, kept.error?.hint].filter(Boolean).join(" · "));
        for (const box of boxes) box.setAttribute("aria-pressed", String(box.dataset.rating === kept.rating));
        result.textContent = form.dataset[!kept.rating ? "back" : kept.learns ? "learns" : "alone"];
        if (what.correction) show(false);
      } catch (problem) {
        result.className = "wrong";
        result.textContent = problem.message;
      }
    };
    for (const box of boxes) box.addEventListener("click", () => vote({ rating: box.getAttribute("aria-pressed") === "true" ? null : box.dataset.rating }));
    open.addEventListener("click", () => {
      show(fix.hidden);
      const text = find("textarea", fix);
      text.value ||= one.text;
      if (!fix.hidden) text.focus();
    });
    fix.addEventListener("submit", (event) => { event.preventDefault(); vote({ correction: find("textarea", fix).value }); });
    one.node.append(place);
    toEnd();
  };

  const ask = async (text, added) => {
    under = new AbortController();
    find("#said").textContent = "";
    [send.hidden, send.disabled, stop.hidden] = [true, true, false];
    const turn = addTurn(text, added);
    keepTurn(turn);
    stay(true);
    toEnd();
    code();
    const broke = await Promise.all([0, 1].filter((side) => sides[side].value).map((side) => answer(turn, side, under.signal)));
    under = null;
    if (turns.includes(turn)) keepAnswers(turn);
    [send.hidden, send.disabled, stop.hidden] = [false, false, true];
    const problem = broke.find(Boolean);
    if (problem) say(problem);
    find("#said").textContent = problem ? "" : words.done;
    if (document.activeElement === document.body || document.activeElement === stop) prompt.focus({ preventScroll: true });
  };
  find("#ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = prompt.value.trim(), added = files;
    if ((!text && !added.length) || under) return;
    prompt.value = "";
    attach([]);
    grow(prompt);
    ask(text, added);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send.click(); }
  });
  prompt.addEventListener("input", () => grow(prompt));
  stop.addEventListener("click", () => under?.abort());
  addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.defaultPrevented) under?.abort(); });
  find("#again").addEventListener("click", fresh);
  thread.addEventListener("click", (event) => {
    const button = event.target.closest(".copy");
    if (button) copy(find("pre", button.closest(".block")).textContent);
  });

  // --- Files as text

  const attach = (now) => {
    files = now;
    const list = find(".write .files");
    list.hidden = !files.length;
    wrong.hidden = true;
    list.replaceChildren(...files.map((one) => {
      const item = document.createElement("li"), gone = document.createElement("button");
      [gone.type, gone.className, gone.textContent, item.textContent] = ["button", "cp", "×", one.name];
      gone.setAttribute("aria-label", `${one.name} ×`);
      gone.addEventListener("click", () => attach(files.filter((other) => other !== one)));
      item.append(" ", gone);
      return item;
    }));
  };
  const read = async (chosen) => {
    const added = [...files];
    let problem = "";
    for (const one of chosen) {
      if (one.size > MOST_FILE || added.length >= MOST_FILES) { problem = words.large.replace("{name}", one.name); continue; }
      try {
        const text = new TextDecoder("utf-8", { fatal: true }).decode(await one.arrayBuffer());
        if (text.includes("\0")) throw new TypeError("binary");
        added.push({ name: one.name.slice(0, 120), text });
      } catch { problem = words.binary.replace("{name}", one.name); }
    }
    attach(added);
    [wrong.hidden, wrong.textContent] = [!problem, problem];
  };
  find("#file").addEventListener("change", (event) => { read([...event.target.files]); event.target.value = ""; });
  chat.addEventListener("dragover", (event) => event.preventDefault());
  chat.addEventListener("drop", (event) => { event.preventDefault(); read([...event.dataTransfer.files]); });

  // --- The same question as code

  const base = location.href.replace(/\/console\/.*$/, "");
  const quoted = (text) => `'${text.replaceAll("'", `'"'"'`)}'`;
  const code = () => {
    if (!find("#code").open) return;
    const body = bodyOf(0);
    if (prompt.value.trim()) body.messages.push({ role: "user", content: prompt.value.trim() });
    if (!body.messages.length) body.messages.push({ role: "user", content: "Hello" });
    const { model, messages, ...rest } = body;
    const python = Object.entries(rest).map(([name, value]) => `, ${name}=${JSON.stringify(value)}`).join("");
    const system = messages.filter((one) => one.role === "system").map((one) => one.content).join("\n");
    const said = messages.filter((one) => one.role !== "system");
    const { max_tokens: most = 256, seed, ...others } = rest;
    const anthropic = Object.entries(others).map(([name, value]) => `, ${name}=${JSON.stringify(value)}`).join("");
    const put = (name, text) => { find(`#code-${name}`).textContent = text; };
    put("curl", `curl ${base}/v1/chat/completions \\\n  -H "Authorization: Bearer $ASHORE_API_KEY" -H "Content-Type: application/json" \\\n  -d ${quoted(JSON.stringify(body))}`);
    put("python", `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${JSON.stringify(`${base}/v1`)}, api_key=os.environ["ASHORE_API_KEY"])\nanswer = client.chat.completions.create(model=${JSON.stringify(model)}, messages=${JSON.stringify(messages)}${python})\nprint(answer.choices[0].message.content)`);
    put("anthropic", `import os\nfrom anthropic import Anthropic\n\nclient = Anthropic(base_url=${JSON.stringify(base)}, api_key=os.environ["ASHORE_API_KEY"])\nanswer = client.messages.create(model=${JSON.stringify(model)}, max_tokens=${most}, messages=${JSON.stringify(said)}${system ? `, system=${JSON.stringify(system)}` : ""}${anthropic})\nprint(answer.content[0].text)`);
    put("shell", `ashore chat --url ${base} ${quoted(model)}`);
  };
  find("#code").addEventListener("toggle", code);
  chat.addEventListener("input", code);

  assistant?.addEventListener("change", () => {
    const model = assistant.selectedOptions[0].dataset.model;
    if (model && [...sides[0].options].some((one) => one.value === model)) sides[0].value = model;
  });
  const asked = kept && /^conv_\w+$/.exec(new URLSearchParams(location.search).get("c") ?? "")?.[0];
  if (asked) opened(asked).catch((problem) => { is("", ""); say(problem.message); });
  addEventListener("resize", fit);
  fit();
  grow(prompt);
})();
