document.documentElement.lang = page.language;

// For screen readers: Gradio nests buttons, and leaves open lists without a name.
new MutationObserver(() => {
  for (const outer of document.querySelectorAll("button.icon-button:not([role]):has(button)")) {
    outer.setAttribute("role", "group");
    outer.tabIndex = -1;
  }
  for (const list of document.querySelectorAll("ul[role=listbox]:not([aria-label])")) {
    const owner = document.querySelector(`[aria-controls="${list.id}"]`);
    list.setAttribute("aria-label", owner?.getAttribute("aria-label") || document.title);
  }
  openTabOfBefore();
}).observe(document, { childList: true, subtree: true });

// The uploads and results of a page are lost when the server restarts: only a reload helps. A page with inputs is left
// to the visitor, who may want to copy them first.
const POLL_MS = 2000;
const INPUTS = "input, textarea, [role=listbox]";
let hasInputs = false;

for (const kind of ["pointerdown", "keydown", "drop"]) {
  addEventListener(kind, (event) => { hasInputs ||= kind === "drop" || Boolean(event.target.closest?.(INPUTS)); }, true);
}

function text(name) {
  return page.texts[name];
}

async function watchServer() {
  try {
    const response = await fetch("gradio_api/app_id", { cache: "no-store" });
    if (response.status === 401) showNotice(text("server.token"));
    else if (!response.ok) showNotice(text("server.stopped"));
    else if ((await response.json()).app_id === window.gradio_config.app_id) showNotice("");
    else if (hasInputs) showNotice(text("server.restarted"), text("server.reload"));
    else location.reload();
  } catch {
    showNotice(text("server.stopped"));
  }
  setTimeout(watchServer, POLL_MS);
}

function showNotice(message, action = "") {
  const notice = document.getElementById("server") || document.body.appendChild(document.createElement("div"));
  if (notice.dataset.message === message) return;
  notice.id = "server";
  notice.setAttribute("role", "status");
  notice.className = message ? "status error" : "";
  notice.dataset.message = notice.textContent = message;
  if (!action) return;
  const button = notice.appendChild(document.createElement("button"));
  button.textContent = action;
  button.onclick = () => location.reload();
}

// A reload, also one by Gradio after a lost connection, keeps the open tab.
addEventListener("pagehide", () => {
  sessionStorage.setItem("tab", document.querySelector("[role=tab][aria-selected=true]")?.id ?? "");
});

function openTabOfBefore() {
  const tab = document.getElementById(sessionStorage.getItem("tab"));
  if (!tab) return;
  sessionStorage.removeItem("tab");
  if (performance.getEntriesByType("navigation")[0].type === "reload") tab.click();
}

setTimeout(watchServer, POLL_MS);
