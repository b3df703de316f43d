// What every page gains from a script: times in the reader's own zone, copying,
// menus that close, and forms that are sent once, which Back and reload do not send again. Pages work without any of it.

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const dayAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const long = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const utc = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });
const distance = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

function localize(root) {
  for (const time of root.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    time.textContent = ({ date: day, exact }[time.dataset.local] ?? dayAndTime).format(at);
  }
  for (const span of root.querySelectorAll("[data-relative]")) {
    span.textContent = relative(new Date(span.closest("time").dateTime));
  }
  for (const span of root.querySelectorAll("[data-zone]")) {
    span.textContent = zone;
  }
}

// relative rounds to the largest unit that there are two of, as the server does.
function relative(at) {
  const seconds = (at - Date.now()) / 1000;
  const length = Math.abs(seconds);
  if (length < 60) {
    return distance.format(0, "minute");
  }
  for (const [unit, size] of [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600]]) {
    if (length >= 2 * size - size / 60) {
      return distance.format(Math.sign(seconds) * Math.round(length / size), unit);
    }
  }
  return distance.format(Math.sign(seconds) * Math.max(1, Math.round(length / 60)), "minute");
}

// The expiry follows the chosen duration.
function expiries(root) {
  for (const out of root.querySelectorAll("[data-expiry]")) {
    const field = out.closest("fieldset");
    const date = field.querySelector("input[type=date]");
    const show = () => {
      const chosen = field.querySelector("input[type=radio]:checked");
      let at = null;
      if (chosen?.value === "custom") {
        if (date.value && date.validity.valid) {
          at = new Date(`${date.value}T23:59:59Z`);
        }
      } else if (Number(chosen?.dataset.seconds) > 0) {
        at = new Date(Date.now() + Number(chosen.dataset.seconds) * 1000);
      }
      out.replaceChildren();
      delete out.dataset.until;
      if (at) {
        out.dataset.until = day.format(at);
        const strong = document.createElement("strong");
        strong.textContent = long.format(at);
        out.append("The token will expire on ", strong, zone === "UTC" ? " (UTC)." : ` (${utc.format(at)} UTC).`);
      }
    };
    field.addEventListener("change", show);
    field.addEventListener("input", show);
    show();
  }
}

// Copying says what became of it. Without the clipboard the text is selected.
function copying(root) {
  for (const button of root.querySelectorAll("[data-copy], [data-copy-from]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copyFrom || button.dataset.copy);
      const text = source.value ?? source.textContent;
      const status = document.getElementById("copied");
      let done = true;
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        done = selectAndCopy(source);
      }
      const label = button.textContent;
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = label === "Copied" ? "Copy" : label; }, 2500);
      if (button.dataset.copyFrom && status) {
        status.textContent = done ? "Copied to the clipboard." : "Select it and copy it with Ctrl+C.";
        if (done) {
          saved = true;
        }
      }
    });
  }
}

function selectAndCopy(source) {
  if (source.select) {
    source.select();
  } else {
    getSelection().selectAllChildren(source);
  }
  return document.execCommand("copy");
}

// A secret that was neither copied nor confirmed is not left by accident, and it
// does not wait in the browser's memory for the Back button.
let saved = false;

function guardSecret() {
  const secrets = document.querySelectorAll("[data-secret]");
  if (!secrets.length) {
    return;
  }
  for (const secret of secrets) {
    secret.addEventListener("focus", () => secret.select());
    secret.addEventListener("copy", () => { saved = true; });
  }
  document.querySelector("[data-saved]")?.addEventListener("click", () => { saved = true; });
  addEventListener("beforeunload", (event) => {
    if (!saved) {
      event.preventDefault();
    }
  });
  addEventListener("pagehide", () => {
    for (const secret of secrets) {
      secret.value = "";
    }
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      location.replace(document.querySelector("[data-saved]").href);
    }
  });
}

// A second click does not send a form again.
function guardForms(root) {
  for (const form of root.querySelectorAll("form[data-guard]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) {
        event.preventDefault();
        return;
      }
      form.dataset.sent = "1";
      event.submitter?.setAttribute("aria-disabled", "true");
    });
  }
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      form.querySelector("[aria-disabled]")?.removeAttribute("aria-disabled");
    }
  });
}

function menus() {
  const close = (except) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (menu !== except) {
        menu.open = false;
      }
    }
  };
  document.addEventListener("click", (event) => close(event.target.closest("details.menu")));
  document.addEventListener("keydown", (event) => {
    const open = document.querySelector("details.menu[open]");
    if (event.key === "Escape" && open) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });
}

// A page that answers a form stands in the history as the page of that form: Back and
// reload ask for that one, and send nothing again.
if (document.documentElement.dataset.sent) {
  history.replaceState(null, "", document.documentElement.dataset.sent);
}

localize(document);
expiries(document);
copying(document);
guardSecret();
guardForms(document);
menus();
