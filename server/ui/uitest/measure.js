// What is wrong with the layout of the page as it is shown now: words broken that need not
// be, and texts, badges and controls that lie on each other. The answer is a list of sentences.
(() => {
  const found = [];
  const scrolls = (el) => ["auto", "scroll"].includes(getComputedStyle(el).overflowX) && el.scrollWidth > el.clientWidth;
  const name = (el) => {
    const parts = [];
    for (let e = el; e && e !== document.body && parts.length < 4; e = e.parentElement) {
      parts.unshift(e.localName + (e.id ? "#" + e.id : [...e.classList].map((c) => "." + c).join("")));
    }
    return parts.join(" > ");
  };
  // clipped cuts a rectangle by the boxes that hide what is outside of them.
  const clipped = (rect, el) => {
    let { left, top, right, bottom } = rect;
    for (let e = el; e && e !== document.documentElement; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.overflowX !== "visible" || style.overflowY !== "visible") {
        const box = e.getBoundingClientRect();
        left = Math.max(left, box.left); right = Math.min(right, box.right);
        top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom);
      }
      if (style.position === "fixed") break;
    }
    return { left, top, right, bottom };
  };
  const shown = (el) => el.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !el.closest(".vh, .skip");

  // Words. One of up to 20 characters stays in one piece, unless it ends a line at a
  // hyphen, slash, dot, colon or underscore of its own. A longer one may be broken anywhere, but never
  // into slivers.
  const short = 20, sliver = 8;
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const el = node.parentElement;
    if (!node.data.trim() || el.closest("script, style, template, option, textarea") || !shown(el)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = [...range.getClientRects()].filter((r) => r.width > 0.5);
    const seen = rects[0] && clipped(range.getBoundingClientRect(), el);
    if (!seen || seen.right - seen.left < 2 || seen.bottom - seen.top < 2) continue; // hidden, but for screen readers
    if (rects.length) texts.push({ el, rects, label: node.data.trim().slice(0, 40) });
    if (rects.length < 2) continue;
    for (const match of node.data.matchAll(/\S+/g)) {
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const tops = new Set([...range.getClientRects()].filter((r) => r.width > 0.5).map((r) => Math.round(r.top)));
      if (tops.size < 2) continue;
      const pieces = [];
      let last = null, from = match.index;
      for (let i = match.index; i < match.index + match[0].length; i++) {
        range.setStart(node, i);
        range.setEnd(node, i + 1);
        const rect = range.getBoundingClientRect();
        if (last !== null && rect.width > 0 && Math.abs(rect.top - last) > 2) {
          pieces.push(node.data.slice(from, i));
          from = i;
        }
        if (rect.width > 0) last = rect.top;
      }
      pieces.push(node.data.slice(from, match.index + match[0].length));
      const within = pieces.slice(0, -1).filter((p) => !/[-/.:_@–—]$/.test(p));
      if (within.length && match[0].length <= short) {
        found.push(`${name(el)}: the word is broken: ${pieces.join("¦")}`);
      } else if (within.some((p) => p.length < sliver)) {
        found.push(`${name(el)}: broken into slivers: ${pieces.join("¦")}`);
      }
    }
  }

  // Overlap: of texts, and of what has a ground or a border of its own.
  const boxes = texts.map(({ el, rects, label }) => ({ el, label, text: true, rects }));
  for (const el of document.querySelectorAll(".state, code.scope, .chip span, button, .button, input, select, textarea, summary, svg, img")) {
    if (!shown(el) || (el.localName === "input" && el.type === "hidden")) continue;
    boxes.push({ el, label: el.textContent.trim().slice(0, 40) || el.localName, rects: [...el.getClientRects()] });
  }
  const flat = [];
  for (const box of boxes) {
    for (const rect of box.rects) {
      const r = clipped(rect, box.text ? box.el : box.el.parentElement);
      if (r.right - r.left > 1 && r.bottom - r.top > 1) flat.push({ ...box, r });
    }
  }
  flat.sort((a, b) => a.r.top - b.r.top);
  const told = new Set();
  for (let i = 0; i < flat.length; i++) {
    for (let j = i + 1; j < flat.length && flat[j].r.top < flat[i].r.bottom - 2; j++) {
      const a = flat[i], b = flat[j];
      if (a.el === b.el || a.el.contains(b.el) || b.el.contains(a.el)) continue;
      const wide = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
      const high = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
      if (wide > 2 && high > 2.5) {
        const text = `${name(a.el)} “${a.label}” and ${name(b.el)} “${b.label}” overlap by ${wide.toFixed(0)}×${high.toFixed(0)}`;
        if (!told.has(text)) found.push(text);
        told.add(text);
      }
    }
  }

  // What is wider than its place. Code scrolls; tables and forms do not.
  const beyond = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (beyond > 0) found.push(`the page scrolls sideways by ${beyond} px`);
  for (const el of document.querySelectorAll("main *")) {
    if (shown(el) && scrolls(el) && !el.closest("pre, textarea, .editor, select")) found.push(`${name(el)} scrolls sideways`);
    const box = el.getBoundingClientRect();
    if (shown(el) && box.width > 0 && !el.closest("pre, .editor, textarea") && box.right > document.documentElement.clientWidth + 1 && clipped(box, el.parentElement).right > document.documentElement.clientWidth + 1) {
      found.push(`${name(el)} reaches beyond the window`);
    }
  }
  return JSON.stringify(found.slice(0, 12));
})()
