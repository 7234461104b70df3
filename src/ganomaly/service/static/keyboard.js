// One key for each verdict: a key clicks, or focuses, what carries it in data-key or data-key-focus.

const find = (attribute, key) => document.querySelector(`[${attribute}="${CSS.escape(key)}"]`);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const typing = event.target.closest("input:not([type=range]), select, textarea");
  if (event.key === "Escape" && typing) typing.blur();
  if (typing) return;
  const pressed = find("data-key", event.key);
  const focused = find("data-key-focus", event.key);
  if (pressed) pressed.click();
  else if (focused) focused.focus();
  if (pressed || focused) event.preventDefault();
});

// a method without reconstructions has none to show
document.addEventListener(
  "error",
  (event) => {
    const figure = event.target.closest?.("figure.optional");
    if (figure) figure.hidden = true;
  },
  true,
);
