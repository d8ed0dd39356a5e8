"use strict";
// Charts, and players whose picture and sound can be kept apart. Two elements of one file play: the
// picture's, muted, and the sound's. (A delay by Web Audio hears nothing of a page opened as a file:
// its sound counts as another site's. And it cannot make sound earlier.)
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const charted = [];

  async function draw(place, spec) {
    const { view } = await vegaEmbed(place, spec, {
      renderer: "svg", actions: false, ast: true, mode: "vega-lite",
    });
    return view;
  }

  function clock(seconds) {
    const tenths = Math.round(seconds * 10);
    const rest = (tenths % 600 / 10).toFixed(1).padStart(4, "0");
    return `${Math.floor(tenths / 600)}:${rest}`;
  }

  function inWords(ms) {
    if (!ms) return "0 ms";
    return `${Math.abs(ms)} ms ${ms > 0 ? "later" : "earlier"}`;
  }

  // Milliseconds by which the sound is to be later at a moment of the picture.
  function along(mend, seconds) {
    if (!mend.length) return 0;
    let at = mend[0];
    for (const part of mend) if (part.from <= seconds) at = part;
    const share = at.to > at.from ? (seconds - at.from) / (at.to - at.from) : 0;
    return at.begin + Math.min(1, Math.max(0, share)) * (at.end - at.begin);
  }

  class Player {
    constructor(section, about) {
      const find = (name) => section.querySelector(name);
      this.about = about;
      this.views = [];
      this.now = 0;
      this.box = find(".player");
      if (!this.box) return;
      this.video = find("video");
      this.fault = find(".fault");
      this.mode = "asis";
      this.moved = 0;
      const bytes = find(".bytes");
      if (bytes) this.video.src = unpacked(bytes);
      this.sound = new Audio();
      this.sound.preload = "auto";
      this.parts = {
        play: find(".play"), time: find(".time"), seek: find(".seek"), delay: find(".delay"),
        words: find(".moved"), asis: find(".asis"), mended: find(".mended"),
      };
      this.box.hidden = false;
      this.listen();
    }

    listen() {
      const { play, seek, delay, asis, mended } = this.parts;
      play.onclick = () => this.toggle();
      seek.oninput = () => this.seek(Number(seek.value));
      delay.oninput = () => this.hear("by hand", Number(delay.value));
      asis.onclick = () => this.hear("asis");
      mended.onclick = () => this.hear("mended");
      this.video.onerror = this.sound.onerror = () => this.fail();
      this.video.onloadedmetadata = () => {
        if (this.video.videoWidth === 0) this.fail();
      };
      this.video.onplay = this.video.onpause = this.video.onended = () => this.playing();
      this.video.onseeked = () => this.paint(this.video.currentTime);
    }

    fail() {
      this.fault.textContent = "This browser cannot play the video: its format is unknown to it, " +
        "or the file is gone. The charts still go where you click.";
      this.fault.hidden = false;
    }

    get delay() {  // seconds, positive: the sound is later
      if (this.mode === "asis") return 0;
      const ms = this.mode === "mended" ? along(this.about.mend, this.now) : this.moved;
      return ms / 1000;
    }

    hear(mode, ms = 0) {
      this.mode = mode;
      this.moved = ms;
      if (mode !== "asis" && !this.sound.src) this.sound.src = this.video.src;
      this.video.muted = mode !== "asis";
      this.video.playbackRate = 1;
      if (mode === "asis") this.sound.pause();
      else this.place();
      this.parts.asis.setAttribute("aria-pressed", mode === "asis");
      this.parts.mended.setAttribute("aria-pressed", mode === "mended");
      this.paint(this.now);
    }

    // Put the sound where it belongs beside the picture.
    place() {
      this.placed = this.delay;
      const due = this.video.currentTime - this.placed;
      const early = due < 0, over = due > (this.sound.duration || Infinity);
      if (early || over) {
        this.sound.pause();
        return;
      }
      this.sound.currentTime = due;
      if (!this.video.paused && this.sound.paused) this.sound.play().catch(() => this.fail());
    }

    keepApart() {
      if (this.mode === "asis" || this.video.paused || this.video.seeking) return;
      if (this.sound.paused || this.sound.seeking) {
        if (!this.sound.seeking && this.video.currentTime >= this.delay && !this.sound.ended)
          this.place();
        this.video.playbackRate = 1;
        return;
      }
      // The picture follows the sound: nobody hears it change its pace. Only where the offset jumps
      // does the sound; it is silent while it seeks, so a slow machine must not seek on and on.
      const delay = this.delay;
      const behind = this.sound.currentTime + delay - this.video.currentTime;
      const jumps = Math.abs(delay - this.placed) > 0.03;
      this.placed = delay;
      if (jumps || Math.abs(behind) > 0.6) this.place();
      else this.video.playbackRate = 1 + Math.min(0.25, Math.max(-0.25, 2 * behind));
    }

    toggle() {
      if (this.video.paused) this.video.play().catch(() => this.fail());
      else this.video.pause();
    }

    playing() {
      const { play } = this.parts;
      play.textContent = this.video.paused ? "▶ Play" : "❚❚ Pause";
      if (this.video.paused) this.sound.pause();
      else {
        if (this.mode !== "asis") this.place();
        this.run();
      }
    }

    run() {
      if (this.running) return;
      this.running = true;
      const tick = () => {
        this.paint(this.video.currentTime);
        this.keepApart();
        if (this.video.paused) this.running = false;
        else requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
    }

    seek(seconds) {
      const to = Math.min(Math.max(0, seconds), this.about.seconds);
      this.now = to;  // the delay may be another there
      if (this.video) {
        this.video.currentTime = to;
        if (this.mode !== "asis") this.place();
      }
      this.paint(to);
    }

    paint(seconds) {
      this.now = seconds;
      for (const view of this.views) this.move(view);
      if (!this.parts) return;
      const { seek, time, delay, words } = this.parts;
      seek.value = seconds;
      seek.setAttribute("aria-valuetext", clock(seconds));
      time.textContent = `${clock(seconds)} / ${clock(this.about.seconds)}`;
      const ms = Math.round(this.delay * 1000);
      if (this.mode !== "by hand") delay.value = ms;
      words.textContent = inWords(ms);
    }

    // Move the line in a chart, if it can be seen: of many faces most cannot.
    move(view) {
      if (view.seen && view.signal("now") !== this.now) view.signal("now", this.now).runAsync();
    }

    follow(view, place) {
      this.views.push(view);
      new IntersectionObserver(([entry]) => {
        view.seen = entry.isIntersecting;
        this.move(view);
      }).observe(place);
      place.addEventListener("click", (event) => {
        const [left] = view.origin();
        const x = event.clientX - place.querySelector("svg").getBoundingClientRect().left;
        this.seek(view.scale("x").invert(x - left - view.padding().left));
      });
    }
  }

  function unpacked(script) {
    const text = atob(script.textContent);
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    script.remove();
    return URL.createObjectURL(new Blob([bytes]));
  }

  function keys(players) {
    let last = players.find((player) => player.box);
    if (!last) return;
    for (const player of players)
      player.box?.closest("section").addEventListener("pointerdown", () => { last = player; });
    document.addEventListener("focusin", (event) => {
      last = players.find((p) => p.box?.closest("section").contains(event.target)) || last;
    });
    document.addEventListener("keydown", (event) => {
      const target = event.target;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (target.matches("input[type=search]")) return;
      const slides = target.matches("input");
      if (event.key === " " && !target.matches("button, summary, a")) last.toggle();
      else if (event.key === "ArrowLeft" && !slides) last.seek(last.now - 1);
      else if (event.key === "ArrowRight" && !slides) last.seek(last.now + 1);
      else if (event.key === ",") last.seek(last.now - 0.04);
      else if (event.key === ".") last.seek(last.now + 0.04);
      else if (event.key.toLowerCase() === "m") last.hear(last.mode === "asis" ? "mended" : "asis");
      else return;
      event.preventDefault();
    });
  }

  async function pageOfVideos() {
    const sections = [...document.querySelectorAll("section.video")];
    const players = sections.map((section, number) => new Player(section, data[number]));
    for (const player of players) player.paint(0);
    keys(players);
    for (const [number, section] of sections.entries()) {
      for (const article of section.querySelectorAll(".track")) {
        const specs = data[number].tracks[article.dataset.number];
        for (const place of article.querySelectorAll(".chart")) {
          const view = await draw(place, specs[place.dataset.chart]);
          charted.push(view);
          if (place.dataset.chart !== "curve") players[number].follow(view, place);
        }
      }
    }
    return players;
  }

  async function pageOfBatch() {
    const filters = document.querySelector(".filters");
    filters.hidden = false;
    const find = filters.querySelector("input[type=search]");
    const boxes = [...filters.querySelectorAll("input[type=checkbox]")];
    filters.oninput = () => {
      const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      const words = find.value.toLowerCase();
      for (const line of document.querySelectorAll("tr[data-status]"))
        line.hidden = !wanted.has(line.dataset.status) ||
          !line.textContent.toLowerCase().includes(words);
    };
    const place = document.querySelector("[data-chart=histogram]");
    if (place) charted.push(await draw(place, data.histogram));
  }

  // On paper a chart is as wide as its column: its picture is scaled, by the size it had.
  window.addEventListener("beforeprint", () => {
    for (const box of document.querySelectorAll("details")) box.open = true;
  });

  const drawn = document.querySelector(".filters") ? pageOfBatch() : pageOfVideos();
  drawn.then((players) => {
    window.syncnet = { players, charted };  // for whoever looks in by the console
    document.documentElement.dataset.drawn = "yes";
  }, (error) => console.error(error));
})();
