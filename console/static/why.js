// Why: what a press on a link asks for opens over the page; without this script the link leads to a page of its own.

const dialog = document.getElementById("why-dialog");
const body = document.getElementById("why-body");

if (dialog) {
  document.addEventListener("htmx:after:swap", () => {
    if (body.childElementCount && !dialog.open && body.dataset.asked) {
      delete body.dataset.asked;
      dialog.showModal();
    }
  });
  document.addEventListener("click", event => {
    if (event.target.closest("a[data-why]")) {
      body.replaceChildren();
      body.dataset.asked = "yes";
    } else if (event.target.closest("[data-close]") || event.target === dialog) {
      dialog.close();
    }
  });
}
