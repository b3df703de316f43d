// What the playground gains from a script: numbers that keep up with the lines,
// places of problems that are shown in the text, and answers that come without the
// page being loaded anew, so that what is typed can still be undone. Control and Enter
// try. Without this script the buttons do the same.

const form = document.getElementById("playground");
const results = document.getElementById("playground-result");

// number writes as many numbers beside a text as it has lines.
function number(text) {
  const count = text.value.split("\n").length;
  text.rows = count + 3;
  text.previousElementSibling.textContent = Array.from({ length: count }, (_, i) => i + 1).join("\n");
}

// show marks a line of a text and brings it into view.
function show(text, line) {
  const lines = text.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, l) => sum + l.length + 1, 0);
  text.focus({ preventScroll: true });
  text.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  const box = text.closest(".editor");
  box.scrollTop = (text.scrollHeight / text.rows) * (line - 4);
  box.scrollIntoView({ block: "center" });
}

let plain = false; // the browser sends the form by itself

async function answer(submitter) {
  form.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, submitter)) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const found = page.getElementById("playground-result");
    if (!found || response.redirected) {
      throw new Error("another page");
    }
    results.replaceChildren(...found.childNodes);
    results.querySelector("[autofocus]")?.focus({ preventScroll: true });
    results.scrollIntoView({ block: "start" });
  } catch {
    plain = true; // and the browser shows what is wrong
    setTimeout(() => form.requestSubmit(submitter)); // which is passed over while the first submission is being told
  } finally {
    form.removeAttribute("aria-busy");
  }
}

if (form) {
  form.querySelectorAll(".editor textarea").forEach(number);
  form.addEventListener("input", (e) => {
    if (e.target.closest(".editor")) {
      number(e.target);
    }
  });
  form.addEventListener("submit", (e) => {
    if (plain || e.submitter?.value !== "try") {
      return;
    }
    e.preventDefault();
    if (form.getAttribute("aria-busy") !== "true") {
      answer(e.submitter);
    }
  });
  form.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
      e.preventDefault();
      form.requestSubmit(form.querySelector("button.primary"));
    }
  });
  results.addEventListener("click", (e) => {
    const link = e.target.closest("a[data-line]");
    const text = link && document.getElementById(link.hash.slice(1));
    if (text) {
      e.preventDefault();
      show(text, Number(link.dataset.line));
    }
  });
}
