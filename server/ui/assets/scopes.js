// Puts scopes together in the browser: each choice narrows the next, rows come
// and go, and the meaning is said in plain words as one chooses. Without this
// script the same buttons ask the server.

const data = JSON.parse(document.getElementById("choices").textContent);
const fieldset = document.getElementById("f-scopes");
const rows = document.getElementById("rows");
const add = document.getElementById("add-scope");
const meaning = document.getElementById("meaning");
const any = "*";
const typed = ":typed";

const control = (row, name) => row.querySelector(`[data-field="${name}"]`);
const option = (value, label) => new Option(label, value);

// fill replaces the choices of a list and keeps what was chosen if it is still
// there; else the only choice is made, or none.
function fill(select, options, placeholder) {
  const before = select.value;
  select.replaceChildren(...(placeholder ? [option("", "Choose…")] : []), ...options);
  if (options.some((o) => o.value === before)) {
    select.value = before;
  } else if (options.length === 1) {
    select.value = options[0].value;
  } else {
    select.selectedIndex = 0;
  }
}

function narrow(row) {
  const domain = control(row, "domain").value || any;
  const known = data.domains[domain];
  if (!known) {
    return; // a domain that only the server's answer lists
  }
  const type = control(row, "entity_type");
  fill(type, data.typeOrder.filter((t) => known.ops[t]).map((t) => option(t, data.types[t].title)), true);
  const kind = data.types[type.value];

  const pick = control(row, "pick");
  const entities = [option(any, type.value === data.itself ? "The domain itself" : kind ? `Any ${kind.one}` : "Any")];
  if (type.value !== data.itself) {
    entities.push(...(kind?.entities ?? []).map((e) => option(e, e)), option(typed, "A certain one…"));
  }
  fill(pick, entities, false);

  const operation = control(row, "operation");
  fill(operation, (known.ops[type.value] ?? []).map((op) => option(`${type.value}/${op}`, kind.ops[op])), true);
}

function scopeOf(row) {
  const pick = control(row, "pick").value;
  const scope = {
    domain: control(row, "domain").value,
    type: control(row, "entity_type").value,
    entity: pick === typed ? control(row, "entity").value.trim() : pick,
    operation: control(row, "operation").value.split("/")[1] ?? "",
  };
  return scope.domain && scope.type && scope.entity && scope.operation ? scope : null;
}

const lower = (text) => (/^.[A-Z]/.test(text) ? text : text.charAt(0).toLowerCase() + text.slice(1));

function inWords(scope) {
  const operation = lower(data.types[scope.type]?.ops[scope.operation] ?? scope.operation);
  const one = data.types[scope.type]?.one ?? scope.type;
  const everywhere = scope.domain === any;
  if (scope.type === data.itself) {
    return `${operation} ${everywhere ? "(every domain of yours)" : `(domain ${scope.domain})`}`;
  }
  const where = everywhere ? "in every domain of yours" : `in ${scope.domain}`;
  return scope.entity === any ? `${operation} any ${one} ${where}` : `${operation} ${one} ${scope.entity} ${where}`;
}

const same = (a, b) => a.domain === b.domain && a.type === b.type && a.entity === b.entity && a.operation === b.operation;
const covers = (a, b) =>
  (a.domain === any || a.domain === b.domain) && a.type === b.type && (a.entity === any || a.entity === b.entity) && a.operation === b.operation;

function noteFor(scopes, i) {
  for (let j = 0; scopes[i] && j < scopes.length; j++) {
    if (j === i || !scopes[j]) {
      continue;
    }
    if (same(scopes[i], scopes[j])) {
      if (j < i) {
        return `The same as scope ${j + 1}.`;
      }
    } else if (covers(scopes[j], scopes[i])) {
      return `Scope ${j + 1} already covers this.`;
    }
  }
  return "";
}

function warnings(scopes) {
  const writes = scopes.filter((s) => s.operation === "write");
  const out = [];
  if (scopes.some((s) => s.domain === any)) {
    out.push(data.warn.everywhere);
  }
  if (writes.some((s) => s.entity === any && s.type !== data.itself)) {
    out.push(data.warn.anyWrite);
  } else if (writes.length > 0) {
    out.push(data.warn.write);
  }
  return out;
}

function list(texts) {
  const ul = document.createElement("ul");
  for (const text of texts) {
    const li = document.createElement("li");
    li.textContent = text;
    ul.append(li);
  }
  return ul;
}

function explain() {
  const all = [...rows.children];
  const scopes = all.map(scopeOf);
  all.forEach((row, i) => {
    const text = noteFor(scopes, i);
    const note = row.querySelector("[data-note]");
    if (note.textContent !== text) {
      note.textContent = text;
    }
  });
  const finished = scopes.filter(Boolean);
  const parts = [];
  if (finished.length > 0) {
    const heading = document.createElement("h2");
    heading.textContent = "In plain words";
    const lead = document.createElement("p");
    const until = document.querySelector("[data-expiry]")?.dataset.until;
    lead.textContent = `${add ? "This token" : "This scope"} can${until ? `, until ${until},` : ""}`;
    parts.push(heading, lead, list([...new Set(finished.map(inWords))]));
  }
  const warned = warnings(finished);
  if (warned.length > 0) {
    const box = document.createElement("div");
    box.className = "warning";
    box.append(document.getElementById("warn-icon").firstElementChild.cloneNode(true), list(warned));
    parts.push(box);
  }
  const shown = document.createElement("div");
  shown.append(...parts);
  if (shown.innerHTML !== meaning.innerHTML) {
    meaning.replaceChildren(...parts);
  }
}

// number gives the controls of each row the names of its place, and shows what
// can be done with so many rows.
function number() {
  const all = [...rows.children];
  all.forEach((row, i) => {
    row.id = `f-scopes-${i}`;
    for (const span of row.querySelectorAll("[data-number]")) {
      span.textContent = i + 1;
    }
    for (const field of row.querySelectorAll("[data-field]")) {
      const name = field.dataset.field;
      const id = `f-scopes-${i}-${name.replaceAll("_", "-")}`;
      row.querySelector(`label[for="${field.id}"]`)?.setAttribute("for", id);
      field.id = id;
      field.name = `scopes[${i}].${name}`;
    }
    const remove = row.querySelector("[data-remove]");
    if (remove) {
      remove.value = `remove-scope-${i}`;
      remove.hidden = all.length < 2;
    }
  });
  if (add) {
    add.disabled = all.length >= data.maxRows;
  }
}

// blank returns a copy of a row without choices, problems and notes.
function blank(row) {
  const copy = row.cloneNode(true);
  copy.classList.remove("bad");
  for (const problem of copy.querySelectorAll(".problem")) {
    problem.remove();
  }
  for (const field of copy.querySelectorAll("[data-field]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
    field.parentElement.classList.remove("bad");
    if (field.tagName === "SELECT") {
      field.selectedIndex = 0;
    } else {
      field.value = "";
    }
  }
  copy.querySelector("[data-note]").textContent = "";
  const domains = Object.keys(data.domains).filter((d) => d !== any);
  if (domains.length === 1) {
    control(copy, "domain").value = domains[0];
  }
  narrow(copy);
  return copy;
}

function preset(key) {
  const chosen = document.getElementById("preset-domain")?.value;
  const domain = data.domains[chosen] ? chosen : Object.keys(data.domains).filter((d) => d !== any).sort()[0];
  const pairs = data.domains[domain]?.presets[key] ?? [];
  if (pairs.length === 0) {
    return;
  }
  const template = blank(rows.firstElementChild);
  rows.replaceChildren(...pairs.map((pair) => {
    const row = template.cloneNode(true);
    control(row, "domain").value = domain;
    narrow(row);
    control(row, "entity_type").value = pair.split("/")[0];
    narrow(row);
    control(row, "operation").value = pair;
    return row;
  }));
  number();
  explain();
}

fieldset.addEventListener("change", (event) => {
  const row = event.target.closest("[data-row]");
  if (row && event.target.tagName === "SELECT") {
    narrow(row);
    if (event.target.dataset.field === "pick" && event.target.value === typed) {
      control(row, "entity").focus();
    }
  }
  explain();
});
fieldset.form.addEventListener("input", explain);
fieldset.form.addEventListener("change", explain);
fieldset.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) {
    return;
  }
  if (button === add) {
    event.preventDefault();
    const row = blank(rows.lastElementChild);
    rows.append(row);
    number();
    control(row, "domain").focus();
  } else if (button.dataset.preset) {
    event.preventDefault();
    preset(button.dataset.preset);
  } else if ("remove" in button.dataset) {
    event.preventDefault();
    const row = button.closest("[data-row]");
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    number();
    control(next, "domain").focus();
  } else {
    return;
  }
  explain();
});

for (const row of rows.children) {
  narrow(row);
}
number();
explain();
