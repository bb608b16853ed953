// Markdown of a model's answer as DOM nodes. An answer is hostile input: nothing in it is read as HTML, every element has one of
// the names below, no address is loaded, and a link shows where it leads. Every scan goes forward, so that no answer can hang a tab.
"use strict";
const markdown = (() => {
  const DEEP = 8, MOST_COLUMNS = 40, MOST_LIT = 60000, MOST_TEX = 4000, MOST_LINES = 60, MOST_TICKS = 80;
  const el = (name, kind, ...inside) => {
    const one = document.createElement(name);
    if (kind) one.className = kind;
    one.append(...inside);
    return one;
  };

  // --- Formulas: the TeX that models write, as MathML. What is not known here is shown as it was written.

  const SPACE = "http://www.w3.org/1998/Math/MathML";
  const ml = (name, ...inside) => { const one = document.createElementNS(SPACE, name); one.append(...inside); return one; };
  const pairs = (text) => new Map(text.trim().split(/\s+/).map((one) => [one.slice(0, -1), one.slice(-1)]));
  const LETTERS = new Map([...pairs(`alphaα betaβ gammaγ deltaδ epsilonϵ varepsilonε zetaζ etaη thetaθ varthetaϑ iotaι kappaκ lambdaλ muμ nuν xiξ piπ rhoρ
    sigmaσ tauτ upsilonυ phiϕ varphiφ chiχ psiψ omegaω GammaΓ DeltaΔ ThetaΘ LambdaΛ XiΞ PiΠ SigmaΣ UpsilonΥ PhiΦ PsiΨ OmegaΩ ellℓ hbarℏ infty∞
    partial∂ nabla∇ emptyset∅ varnothing∅ Reℜ Imℑ alephℵ ldots… dots… cdots⋯ vdots⋮ ddots⋱ prime′ degree° triangle△ angle∠ perp⊥ top⊤ bot⊥ checkmark✓`)]);
  const SIGNS = pairs(`times× cdot⋅ div÷ pm± mp∓ ast∗ star⋆ circ∘ bullet∙ oplus⊕ otimes⊗ odot⊙ le≤ leq≤ leqslant⩽ ge≥ geq≥ geqslant⩾ ne≠ neq≠ approx≈
    equiv≡ sim∼ simeq≃ cong≅ propto∝ ll≪ gg≫ in∈ notin∉ ni∋ subset⊂ subseteq⊆ supset⊃ supseteq⊇ cup∪ cap∩ setminus∖ land∧ wedge∧ lor∨ vee∨ neg¬ lnot¬
    forall∀ exists∃ to→ rightarrow→ leftarrow← Rightarrow⇒ Leftarrow⇐ leftrightarrow↔ Leftrightarrow⇔ iff⇔ implies⇒ mapsto↦ longrightarrow⟶ uparrow↑
    downarrow↓ mid∣ parallel∥ colon: langle⟨ rangle⟩ lfloor⌊ rfloor⌋ lceil⌈ rceil⌉ lbrace{ rbrace} lvert| rvert| vert| Vert‖ lVert‖ rVert‖ vdash⊢ models⊨
    therefore∴ because∵ {{ }} |‖ %% && ## $$ __`);
  const BIG = pairs("sum∑ prod∏ coprod∐ int∫ iint∬ iiint∭ oint∮ bigcup⋃ bigcap⋂ bigoplus⨁ bigotimes⨂");
  const NAMES = new Set("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min sup inf arg argmax argmin det dim ker gcd Pr deg hom limsup liminf softmax".split(" "));
  const ABOVE = pairs("hat^ widehat^ bar¯ overline¯ vec→ overrightarrow→ tilde~ widetilde~ dot˙ ddot¨ check∨ overbrace⏞");
  const BELOW = pairs("underline_ underbrace⏟");
  const GAPS = new Map(Object.entries({ ",": ".17em", ":": ".22em", ";": ".28em", " ": ".25em", "~": ".25em", quad: "1em", qquad: "2em", "!": "-.17em" }));
  const EDGES = new Map(Object.entries({ pmatrix: "()", bmatrix: "[]", vmatrix: "||", Bmatrix: "{}", Vmatrix: "‖‖", cases: "{" }));
  const IGNORED = new Set("displaystyle textstyle scriptstyle limits nolimits nonumber notag big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle".split(" "));
  const STYLES = new Map(Object.entries({ mathbf: [0x1d400, 0x1d41a], boldsymbol: [0x1d400, 0x1d41a], bm: [0x1d400, 0x1d41a], mathbb: [0x1d538, 0x1d552], mathcal: [0x1d49c, 0x1d4b6], mathscr: [0x1d49c, 0x1d4b6], mathfrak: [0x1d504, 0x1d51e] }));
  const ODD = new Map(Object.entries({ mathbbC: "ℂ", mathbbH: "ℍ", mathbbN: "ℕ", mathbbP: "ℙ", mathbbQ: "ℚ", mathbbR: "ℝ", mathbbZ: "ℤ", mathcalB: "ℬ", mathcalE: "ℰ", mathcalF: "ℱ", mathcalH: "ℋ", mathcalI: "ℐ", mathcalL: "ℒ", mathcalM: "ℳ", mathcalR: "ℛ", mathcale: "ℯ", mathcalg: "ℊ", mathcalo: "ℴ", mathfrakC: "ℭ", mathfrakH: "ℌ", mathfrakI: "ℑ", mathfrakR: "ℜ", mathfrakZ: "ℨ" }));
  const styled = (style, text) => [...text].map((one) => {
    const odd = ODD.get(style.replace("scr", "cal") + one), [upper, lower] = STYLES.get(style);
    if (odd) return odd;
    if (/[A-Z]/.test(one)) return String.fromCodePoint(upper + one.charCodeAt(0) - 65);
    return /[a-z]/.test(one) ? String.fromCodePoint(lower + one.charCodeAt(0) - 97) : one;
  }).join("");

  const formula = (source, display) => {
    const written = () => el("code", "tex", source);
    if (source.length > MOST_TEX) return written();
    const tokens = source.match(/\\(?:[a-zA-Z]+\*?|[^])|\d+(?:\.\d+)?|[^]/gu) ?? [];
    let at = 0, deep = 0;
    const fail = () => { throw new SyntaxError("not a formula"); };
    const skip = () => { while (/^\s$/.test(tokens[at] ?? "")) at += 1; };
    const peek = () => { skip(); return tokens[at]; };
    const raw = () => { // {text} as it stands
      if (peek() !== "{") return tokens[at++] ?? fail();
      let open = 0, text = "";
      do {
        const one = tokens[at++] ?? fail();
        open += one === "{" ? 1 : one === "}" ? -1 : 0;
        text += one;
      } while (open);
      return text.slice(1, -1);
    };
    const row = (...ends) => {
      const found = [];
      deep += 1;
      if (deep > 40) fail();
      while (peek() !== undefined && !ends.includes(tokens[at])) found.push(scripted());
      deep -= 1;
      return found;
    };
    const group = () => {
      if (peek() !== "{") return atom();
      at += 1;
      const inside = ml("mrow", ...row("}"));
      return tokens[at++] === "}" ? inside : fail();
    };
    const fence = (sign) => { const one = ml("mo", sign); one.setAttribute("stretchy", "true"); one.setAttribute("fence", "true"); return one; };
    const delimiter = () => { const one = peek() ?? fail(); at += 1; return one === "." ? "" : one[0] === "\\" ? SIGNS.get(one.slice(1)) ?? fail() : one; };
    const table = (kind) => {
      if (kind === "array") raw();
      const lines = [ml("mtr")], ends = ["&", "\\\\", "\\end"];
      for (;;) {
        lines.at(-1).append(ml("mtd", ...row(...ends)));
        const end = tokens[at++] ?? fail();
        if (end === "\\end") break;
        if (end === "\\\\") { if (peek() === "\\end") continue; lines.push(ml("mtr")); }
      }
      if (raw().replace("*", "") !== kind) fail();
      const made = ml("mtable", ...lines.filter((one) => one.textContent));
      if (/align|cases|split|gather/.test(kind)) made.setAttribute("class", "aligned");
      const [left, right] = EDGES.get(kind) ?? "";
      return ml("mrow", ...(left ? [fence(left)] : []), made, ...(right ? [fence(right)] : []));
    };
    const command = (name) => {
      if (LETTERS.has(name)) return ml("mi", LETTERS.get(name));
      if (BIG.has(name)) { const one = ml("mo", BIG.get(name)); if (!name.includes("int")) one.setAttribute("movablelimits", "true"); return one; }
      if (SIGNS.has(name)) return ml("mo", SIGNS.get(name));
      if (NAMES.has(name)) return ml(/^(lim|max|min|sup|inf|arg)/.test(name) ? "mo" : "mi", name.replace(/(?<=^(?:lim|arg))(?=.)/, "\u2009"));
      if (GAPS.has(name)) { const one = ml("mspace"); one.setAttribute("width", GAPS.get(name)); return one; }
      if (IGNORED.has(name)) return ml("mrow");
      if (STYLES.has(name)) return ml("mi", styled(name, raw()));
      if (ABOVE.has(name)) { const one = ml("mover", group(), ml("mo", ABOVE.get(name))); one.setAttribute("accent", "true"); return one; }
      if (BELOW.has(name)) return ml("munder", group(), ml("mo", BELOW.get(name)));
      switch (name) {
        case "frac": case "dfrac": case "tfrac": case "cfrac": return ml("mfrac", group(), group());
        case "binom": { const one = ml("mfrac", group(), group()); one.setAttribute("linethickness", "0"); return ml("mrow", fence("("), one, fence(")")); }
        case "sqrt": {
          if (peek() !== "[") return ml("msqrt", group());
          at += 1;
          const root = ml("mrow", ...row("]"));
          at += 1;
          return ml("mroot", group(), root);
        }
        case "text": case "textbf": case "textit": case "textrm": case "mbox": case "operatorname": case "mathrm": case "mathit": case "mathsf": case "mathtt":
          return ml(/text|mbox/.test(name) ? "mtext" : "mi", raw().replaceAll("\\", "").replaceAll(" ", "\u00a0"));
        case "boxed": return group();
        case "tag": return ml("mtext", `\u2003(${raw()})`);
        case "not": { const one = scripted(); one.append("\u0338"); return one; }
        case "stackrel": case "overset": { const over = group(); return ml("mover", group(), over); }
        case "underset": { const under = group(); return ml("munder", group(), under); }
        case "left": {
          const open = fence(delimiter()), inside = row("\\right");
          if (tokens[at++] !== "\\right") fail();
          return ml("mrow", open, ...inside, fence(delimiter()));
        }
        case "begin": return table(raw().replace("*", ""));
        default: return fail();
      }
    };
    const atom = () => {
      const one = peek() ?? fail();
      if (one === "{") return group();
      at += 1;
      if (one === "}" || one === "&" || one === "\\\\" || one === "^" || one === "_") fail();
      if (one[0] === "\\") return command(one.slice(1).replace("*", ""));
      if (/^\d/.test(one)) return ml("mn", one);
      if (/^\p{L}$/u.test(one)) return ml("mi", one);
      if (one === "'") return ml("mo", "′");
      return ml("mo", one === "-" ? "−" : one === "*" ? "∗" : one);
    };
    const scripted = () => {
      const base = peek() === "^" || peek() === "_" ? ml("mrow") : atom();
      let under = null, over = null;
      for (let mark = peek(); mark === "^" || mark === "_" || mark === "'"; mark = peek()) {
        at += 1;
        if (mark === "'") { over = ml("mrow", ...(over ? [over] : []), ml("mo", "′")); continue; }
        const script = group();
        if (mark === "_") under = script; else over = ml("mrow", ...(over ? [over] : []), script);
      }
      const stacked = base.localName === "munder" || base.localName === "mover" || (base.localName === "mo" && (base.hasAttribute("movablelimits") || /^(lim|max|min|sup|inf|arg)/.test(base.textContent)));
      if (under && over) return ml(stacked && display ? "munderover" : "msubsup", base, under, over);
      if (under) return ml(stacked && display ? "munder" : "msub", base, under);
      return over ? ml(stacked && display ? "mover" : "msup", base, over) : base;
    };
    try {
      const made = ml("math", ml("mrow", ...row()));
      if (at < tokens.length) fail();
      if (display) made.setAttribute("display", "block");
      made.setAttribute("aria-label", source.slice(0, 300));
      return made;
    } catch (problem) {
      if (problem instanceof SyntaxError || problem instanceof RangeError) return written();
      throw problem;
    }
  };

  // --- Code

  const HASHED = /^(py|python\d?|rb|ruby|sh|bash|zsh|shell|console|ya?ml|toml|ini|conf|dockerfile|make(file)?|perl|r|julia|elixir|nix|nginx|gitignore|env|powershell|ps1)$/;
  const DASHED = /^(sql|psql|mysql|plsql|lua|haskell|hs|ada|vhdl)$/;
  const TAGGED = /^(html|xml|svg|vue|xhtml)$/;
  const PLAIN = /^(|te?xt|plain(text)?|output|log|csv|tsv|diff|md|markdown|none)$/;
  const TEXTS = `"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:[^"\\\\\\n]|\\\\[^])*"?|'(?:[^'\\\\\\n]|\\\\[^])*'?|\`(?:[^\`\\\\]|\\\\[^])*\`?`;
  const KEYWORDS = new Set(`abstract and any as async await begin bool boolean break byte case catch char class const continue crate declare def default defer del delete do double
    elif else elsif end enum except export extends extern False false final finally float fn for foreach from func function global go goto if impl implements import in include
    inline int interface internal is isinstance lambda let local long loop match mod module move mut namespace new nil None not null nullptr object of or override package pass
    private protected pub public raise readonly ref require return self Self short signed sizeof static str string struct super switch template then this throw throws trait True
    true try type typedef typeof undefined union unless unsafe unsigned until use using val var virtual void volatile when where while with yield done esac fi echo exit set
    SELECT FROM WHERE`.split(/\s+/));
  const SQL = new Set(`add all alter and any as asc begin between by case cast check coalesce commit constraint count create cross current_date current_timestamp default delete desc distinct
    drop else end exists explain false filter first foreign from full function group having if in index inner insert interval into is join key last lateral left like limit not null
    nulls offset on or order outer over partition primary recursive references replace returning right rollback row rows select set sum table then to true union unique update using
    values view when where window with without avg max min int integer bigint text varchar numeric boolean date timestamp`.split(/\s+/));
  const lit = (code, language) => {
    if (PLAIN.test(language) || code.length > MOST_LIT) return [code];
    const sql = DASHED.test(language);
    const comments = HASHED.test(language) ? "#[^\\n]*" : sql ? "--[^\\n]*|/\\*[^]*?(?:\\*/|$)" : TAGGED.test(language) ? "<!--[^]*?(?:-->|$)|</?[A-Za-z][\\w:-]*|/?>" : "//[^\\n]*|/\\*[^]*?(?:\\*/|$)";
    const all = new RegExp(`(${comments})|(${TEXTS})|(\\b\\d[\\w.]*)|([\\p{L}_$][\\p{L}\\w$]*)`, "gu");
    const found = [];
    let from = 0;
    for (const one of code.matchAll(all)) {
      const [whole, comment, text, number, word] = one;
      const end = one.index + whole.length;
      const kind = comment !== undefined ? (comment[0] === "<" && comment[1] !== "!") || comment.endsWith(">") && comment.length < 3 ? "k" : "c"
        : text !== undefined ? "s" : number !== undefined ? "n"
          : (sql ? SQL.has(word.toLowerCase()) : KEYWORDS.has(word)) ? "k" : code[end] === "(" ? "f" : "";
      if (!kind) continue;
      if (one.index > from) found.push(code.slice(from, one.index));
      found.push(el("span", kind, whole));
      from = end;
    }
    found.push(code.slice(from));
    return found;
  };
  const codeBlock = (code, language, words) => {
    const button = el("button", "btn quiet sm copy", words.copy);
    button.type = "button";
    const body = el("pre", "", el("code", "", ...lit(code, language.toLowerCase())));
    body.tabIndex = 0;
    return el("div", "block", el("div", "block-head", el("span", "", language || words.plain), button), body);
  };

  // --- Text in a line

  const LINK = /\[((?:[^[\]\\\n]|\\[^\n]){0,300})\]\(\s{0,8}<?([^\s<>()]{0,2000}(?:\([^\s<>()]{0,200}\)[^\s<>()]{0,200})?)>?(?:\s{1,8}"[^"\n]{0,200}")?\s{0,8}\)/y;
  const BARE = /https?:\/\/[^\s<>"'`|\\\u3000-\u303f\uff00-\uffef]{1,2000}/y;
  const SPECIAL = /[\\`*_~[!<$\nh]/g;
  const AFTER = /[\p{L}\p{N}]/u;
  const address = (text) => {
    try {
      const url = new URL(text);
      return ["http:", "https:", "mailto:"].includes(url.protocol) && !url.username && !url.password ? url.href : "";
    } catch { return ""; }
  };
  const link = (inside, to, text) => {
    const href = address(to);
    if (!href) return el("span", "", ...inside, text === to ? "" : ` (${to})`);
    const one = el("a");
    one.href = href;
    one.rel = "noopener noreferrer nofollow";
    one.target = "_blank";
    const where = el("bdi", "where", href);
    if (text === to || text === href) one.append(where); else one.append(el("bdi", "", ...inside), " ", where);
    return one;
  };
  const inline = (text, words, deep = 0) => {
    const found = [], missing = new Set();
    let plain = "", at = 0;
    const flush = () => { if (plain) found.push(plain); plain = ""; };
    const put = (node, end) => { flush(); found.push(node); at = end; };
    const until = (mark, from, fits) => { // where a mark closes; looked for once if it does not
      if (missing.has(mark)) return -1;
      for (let end = text.indexOf(mark, from); end >= 0; end = text.indexOf(mark, end + 1)) if (fits(end)) return end;
      missing.add(mark);
      return -1;
    };
    const emphasis = (mark, name, inner) => {
      const from = at + mark.length, one = mark[0];
      if (deep >= DEEP || /\s/.test(text[from] ?? " ") || (one === "_" && AFTER.test(text[at - 1] ?? ""))) return false;
      const end = until(mark, from + 1, (place) => !/\s/.test(text[place - 1]) && (mark.length > 1 || (text[place - 1] !== one && text[place + 1] !== one)) && (one !== "_" || !AFTER.test(text[place + mark.length] ?? "")));
      if (end <= from) return false;
      const inside = inline(text.slice(from, end), words, deep + 1);
      put(inner ? el(name, "", el(inner, "", ...inside)) : el(name, "", ...inside), end + mark.length);
      return true;
    };
    const math = (open, close, display) => {
      const from = at + open.length;
      if (open === "$" && /\s/.test(text[from] ?? " ")) return false;
      const end = until(close, from, (place) => place > from && (open !== "$" || (!/\s/.test(text[place - 1]) && text[place - 1] !== "\\" && !/\d/.test(text[place + 1] ?? ""))));
      if (end < from) return false;
      put(formula(text.slice(from, end).trim(), display), end + close.length);
      return true;
    };
    const code = () => {
      let run = 1;
      while (text[at + run] === "`") run += 1;
      const mark = "`".repeat(run);
      const end = run > MOST_TICKS ? -1 : until(mark, at + run, (place) => place >= at + run && text[place - 1] !== "`" && text[place + run] !== "`");
      if (end < at + run) { plain += mark; at += run; return; }
      let inside = text.slice(at + run, end).replaceAll("\n", " ");
      if (inside.trim() && inside.startsWith(" ") && inside.endsWith(" ")) inside = inside.slice(1, -1);
      put(el("code", "", inside), end + run);
    };
    const linked = () => {
      const picture = text[at] === "!";
      LINK.lastIndex = at + Number(picture);
      const one = LINK.exec(text);
      if (!one) return false;
      const said = one[1].replace(/\\([!-/:-@[-`{-~])/g, "$1");
      if (picture) put(el("span", "picture", `${words.picture} `, link([said], one[2], said)), LINK.lastIndex); // shown as a link, never loaded
      else put(link(inline(one[1], words, DEEP), one[2], said), LINK.lastIndex);
      return true;
    };
    const bare = () => {
      BARE.lastIndex = at + Number(text[at] === "<");
      const one = BARE.exec(text);
      if (!one || AFTER.test(text[at - 1] ?? "")) return false;
      let url = one[0], end = url.length;
      while (end && /[.,;:!?)\]}*_~$]/.test(url[end - 1]) && !(url[end - 1] === ")" && url.slice(0, end).includes("("))) end -= 1;
      url = url.slice(0, end);
      if (!address(url)) return false;
      put(link([url], url, url), one.index + end + Number(text[at] === "<" && text[one.index + end] === ">"));
      return true;
    };
    while (at < text.length) {
      SPECIAL.lastIndex = at;
      const next = SPECIAL.exec(text);
      if (!next) { plain += text.slice(at); break; }
      plain += text.slice(at, next.index);
      at = next.index;
      const sign = text[at], two = text.substr(at, 2);
      let done = false;
      if (sign === "\n") { plain = plain.replace(/ {1,8}$/, ""); put(el("br"), at + 1); done = true; }
      else if (two === "\\(") done = math("\\(", "\\)", false);
      else if (two === "\\[") done = math("\\[", "\\]", true);
      else if (sign === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) { plain += text[at + 1]; at += 2; done = true; }
      else if (two === "$$") done = math("$$", "$$", true);
      else if (sign === "$") done = math("$", "$", false);
      else if (sign === "`") { code(); done = true; }
      else if (text.startsWith("***", at)) done = emphasis("***", "strong", "em");
      else if (two === "**" || two === "__") done = emphasis(two, "strong");
      else if (two === "~~") done = emphasis("~~", "del");
      else if (sign === "*" || sign === "_") done = emphasis(sign, "em");
      else if (sign === "[" || two === "![") done = linked();
      else if (sign === "h" || sign === "<") done = bare();
      if (!done && at < text.length) { const stay = text.startsWith("***", at) ? 3 : two === "**" || two === "__" ? 2 : 1; plain += text.substr(at, stay); at += stay; }
    }
    flush();
    return found;
  };

  // --- Blocks

  const FENCE = /^([ \t]{0,12})(`{3,}|~{3,})[ \t]*([\w+#.-]{0,40})[^`]{0,200}$/;
  const HEAD = /^ {0,3}(#{1,6})[ \t]+(.*)$/s;
  const ITEM = /^([ \t]{0,40})([-*+•]|\d{1,9}[.)])[ \t]+(.*)$/s;
  const RULE = /^ {0,3}(?:(?:-[ \t]{0,4}){3,200}|(?:\*[ \t]{0,4}){3,200}|(?:_[ \t]{0,4}){3,200})$/;
  const QUOTE = /^ {0,3}> ?/;
  const DISPLAY = /^[ \t]{0,12}(\$\$|\\\[)/;
  const LINE = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*){0,39}\|?[ \t]*$/;
  const blank = (line) => !line.trim();
  const indent = (line) => line.length - line.trimStart().length;
  const isTable = (lines, at) => lines[at].includes("|") && lines[at + 1] !== undefined && lines[at + 1].length < 500 && lines[at + 1].includes("-") && LINE.test(lines[at + 1]);
  const begins = (lines, at) => FENCE.test(lines[at]) || HEAD.test(lines[at]) || QUOTE.test(lines[at]) || ITEM.test(lines[at]) || DISPLAY.test(lines[at]) || RULE.test(lines[at]) || isTable(lines, at);
  const cells = (line) => {
    const found = [""];
    const inside = line.trim().replace(/^\|/, "");
    let code = false;
    for (let at = 0; at < inside.length; at += 1) {
      if (inside[at] === "`") code = !code;
      if (inside[at] === "\\" && inside[at + 1] === "|") { found[found.length - 1] += "|"; at += 1; }
      else if (inside[at] === "|" && !code) { if (at < inside.length - 1) found.push(""); }
      else found[found.length - 1] += inside[at];
    }
    return found.slice(0, MOST_COLUMNS).map((one) => one.trim());
  };

  // Returns [node, index of the line behind it] of the block that begins at a line.
  const block = (lines, at, words, deep) => {
    const line = lines[at], fence = FENCE.exec(line), head = HEAD.exec(line), display = DISPLAY.exec(line);
    if (fence) {
      let end = at + 1;
      const closes = (one) => { const text = one.trim(); return text.length >= fence[2].length && text[0] === fence[2][0] && !text.replaceAll(fence[2][0], ""); };
      while (end < lines.length && !closes(lines[end])) end += 1;
      const cut = fence[1].length, code = lines.slice(at + 1, end).map((one) => one.slice(Math.min(cut, indent(one)))).join("\n");
      return [codeBlock(code, fence[3], words), end + 1];
    }
    if (head) return [el("h3", `l${head[1].length}`, ...inline(head[2].trim(), words)), at + 1];
    if (display) {
      const close = display[1] === "$$" ? "$$" : "\\]";
      let text = line.slice(display[0].length), end = at;
      while (!text.includes(close) && end - at < MOST_LINES && end + 1 < lines.length && !blank(lines[end + 1])) text += `\n${lines[end += 1]}`;
      const place = text.indexOf(close);
      if (place >= 0 && blank(text.slice(place + 2).replace(/^[.,;]/, ""))) return [el("p", "formula", formula(text.slice(0, place).trim(), true), text.slice(place + 2).trim()), end + 1];
    }
    if (RULE.test(line)) return [el("hr"), at + 1];
    if (QUOTE.test(line) && deep < DEEP) {
      let end = at;
      while (end < lines.length && (QUOTE.test(lines[end]) || (!blank(lines[end]) && end > at && !begins(lines, end)))) end += 1;
      return [el("blockquote", "", ...blocks(lines.slice(at, end).map((one) => one.replace(QUOTE, "")), words, deep + 1)), end];
    }
    if (isTable(lines, at)) {
      const align = cells(lines[at + 1]).map((one) => (one.endsWith(":") ? (one.startsWith(":") ? "center" : "end") : ""));
      const row = (name, text, most) => el("tr", "", ...cells(text).slice(0, most).map((one, column) => el(name, align[column] ?? "", ...inline(one, words))));
      let end = at + 2;
      const body = el("tbody");
      while (end < lines.length && !blank(lines[end]) && lines[end].includes("|")) body.append(row("td", lines[end++], align.length));
      const scroll = el("div", "wide", el("table", "", el("thead", "", row("th", line, align.length)), body));
      scroll.tabIndex = 0;
      return [scroll, end];
    }
    if (ITEM.test(line) && deep < DEEP) return list(lines, at, words, deep);
    let end = at + 1;
    while (end < lines.length && !blank(lines[end]) && !begins(lines, end)) end += 1;
    return [el("p", "", ...inline(lines.slice(at, end).join("\n").trim(), words)), end];
  };
  const list = (lines, start, words, deep) => {
    const first = ITEM.exec(lines[start]), edge = first[1].length, numbered = /\d/.test(first[2]);
    const items = [];
    let at = start, gap = false, loose = false;
    for (; at < lines.length; at += 1) {
      const line = lines[at], item = ITEM.exec(line);
      if (blank(line)) { gap = true; items.at(-1)?.push(""); continue; }
      if (item && item[1].length < edge + 2 && item[1].length + 2 > edge) {
        if (/\d/.test(item[2]) !== numbered || RULE.test(line)) break;
        loose ||= gap && items.length > 0;
        items.push([item[3]]);
      } else if (indent(line) > edge || (!gap && !begins(lines, at))) {
        items.at(-1).push(line.slice(Math.min(indent(line), edge + first[2].length + 1)));
      } else break;
      gap = false;
    }
    const made = el(numbered ? "ol" : "ul");
    if (numbered && parseInt(first[2], 10) !== 1) made.start = parseInt(first[2], 10);
    for (const item of items) {
      const task = /^\[([ xX])\]\s/.exec(item[0]);
      if (task) item[0] = `${task[1] === " " ? "☐" : "☑"} ${item[0].slice(4)}`;
      const inside = blocks(item, words, deep + 1);
      if (!loose && inside.filter((one) => one.localName === "p").length === 1 && inside[0].localName === "p" && !inside[0].className) inside.splice(0, 1, ...inside[0].childNodes);
      made.append(el("li", "", ...inside));
    }
    return [made, at];
  };
  const blocks = (lines, words, deep = 0) => {
    const found = [];
    for (let at = 0; at < lines.length;) {
      if (blank(lines[at])) { at += 1; continue; }
      const [node, end] = block(lines, at, words, deep);
      found.push(node);
      at = end;
    }
    return found;
  };
  const linesOf = (text) => text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n");

  // Shows a growing text in `place`. Blocks that can no longer change stay as they are; the last one is made again.
  const growing = (place, words) => {
    let kept = 0, tail = [];
    return (text) => {
      const lines = linesOf(text.slice(kept)), made = [];
      for (let at = 0; at < lines.length;) {
        if (blank(lines[at])) { at += 1; continue; }
        const [node, end] = block(lines, at, words, 0);
        made.push([node, at]);
        at = end;
      }
      for (const one of tail) one.remove();
      place.append(...made.map(([node]) => node));
      let open = made.length - 1;
      if (open > 0 && made[open][1] >= lines.length - 1) open -= 1; // its one line may still become something else
      tail = made.slice(Math.max(0, open)).map(([node]) => node);
      if (open > 0) {
        let rest = text.slice(kept);
        for (let line = made[open][1], at = 0; line > 0; line -= 1) { at = rest.search(/\r\n?|\n/); const size = rest.startsWith("\r\n", at) ? 2 : 1; kept += at + size; rest = rest.slice(at + size); }
      }
    };
  };
  return { growing, render: (text, words) => blocks(linesOf(text), words) };
})();
