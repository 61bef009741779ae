// Listen to source, reference and result in turn: one click switches the clip, and playing goes on
// from the same position. Keys 1, 2, 3 do the same while the panel has the focus.
(() => {
  const panelOf = (element) => element.closest(".vc-compare");
  const clipsOf = (panel) => [...panel.querySelectorAll("audio")];
  const current = (panel) => clipsOf(panel).find((clip) => clip.dataset.current === "yes");
  const time = (seconds) =>
    `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

  function show(panel) {
    const clip = current(panel);
    const length = clip.duration || 0;
    const slider = panel.querySelector("input");
    slider.max = length;
    slider.value = clip.currentTime;
    slider.setAttribute("aria-valuetext", `${time(clip.currentTime)} of ${time(length)}`);
    const times = panel.querySelector(".vc-transport span"); // the slider says it to screen readers
    times.textContent = `${time(clip.currentTime)} / ${time(length)}`;
    const play = panel.querySelector(".vc-play");
    play.textContent = clip.paused ? "▶" : "❚❚";
    play.setAttribute("aria-label", clip.paused ? "Play" : "Pause");
  }

  function choose(panel, role, play) {
    const before = current(panel);
    const after = clipsOf(panel).find((clip) => clip.dataset.role === role);
    const position = before.currentTime;
    const playing = !before.paused || play;
    for (const clip of clipsOf(panel)) {
      clip.pause();
      clip.dataset.current = clip === after ? "yes" : "no";
    }
    for (const button of panel.querySelectorAll(".vc-clips button")) {
      button.setAttribute("aria-pressed", String(button.dataset.role === role));
    }
    // a shorter clip starts again where the position lies beyond its end
    after.currentTime = position < (after.duration || Infinity) - 0.05 ? position : 0;
    if (playing) after.play().catch(() => {});
    show(panel);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".vc-compare button");
    if (!button || button.disabled) return;
    const panel = panelOf(button);
    if (button.classList.contains("vc-play")) {
      const clip = current(panel);
      if (clip.paused) clip.play().catch(() => {});
      else clip.pause();
    } else {
      choose(panel, button.dataset.role, true);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return; // the browser's own keys
    const panel = event.target.closest?.(".vc-compare");
    const button = panel?.querySelectorAll(".vc-clips button")["123".indexOf(event.key)];
    if (button && !button.disabled) choose(panel, button.dataset.role, true);
  });
  document.addEventListener("input", (event) => {
    const panel = event.target.closest?.(".vc-compare");
    if (!panel) return;
    current(panel).currentTime = Number(event.target.value);
    show(panel);
  });
  for (const name of ["timeupdate", "play", "pause", "ended", "loadedmetadata"]) {
    // media events do not bubble, but they can be caught on their way down
    document.addEventListener(name, (event) => {
      const panel = event.target.closest?.(".vc-compare");
      if (panel) show(panel);
    }, true);
  }
})();
