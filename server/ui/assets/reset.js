// The code of a link is in the address's fragment, which the browser sends nowhere. It
// goes into its field, and out of the address and the history.

const code = location.hash.slice(1);
if (/^[A-Z2-7-]{20,30}$/i.test(code)) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("f-code").value = code;
  (document.getElementById("f-password") ?? document.querySelector("form[data-guard] button.primary")).focus();
}
