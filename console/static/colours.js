// The colours of the page for the charts, read from the style sheet so that there is one place for them.

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function font() {
  return colour("font");
}
