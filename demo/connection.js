// Say so when the server behind an open page was restarted: what was uploaded is gone then. And tell
// the server that the page is still there, and when it no longer is: it deletes the clips then.
(() => {
  let started = null; // which run of the server this page belongs to

  // `vcVisit` is Gradio's name of this visit; the page sets it when it has it.
  const tell = (method) => {
    const options = { method, keepalive: true };
    if (window.vcVisit) fetch(`visit/${window.vcVisit}`, options).catch(() => {});
  };

  async function check() {
    tell("POST");
    let now;
    try {
      const answer = await fetch("gradio_api/app_id");
      if (!answer.ok) return;
      now = (await answer.json()).app_id;
    } catch {
      return; // not there at the moment: Gradio itself says so
    }
    started ??= now;
    if (now === started || document.querySelector(".vc-restarted")) return;
    const banner = document.createElement("div");
    banner.className = "vc-restarted";
    banner.setAttribute("role", "alert");
    banner.textContent = "The server was restarted; your clips are no longer on it. ";
    const button = document.createElement("button");
    button.textContent = "Reload the page";
    button.addEventListener("click", () => location.reload());
    banner.append(button);
    document.body.prepend(banner);
  }

  check();
  setInterval(check, 15_000);
  document.addEventListener("visibilitychange", check);
  window.addEventListener("pagehide", (event) => {
    if (!event.persisted) tell("DELETE"); // else the browser may come back to it
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("button")) check();
  });
})();
