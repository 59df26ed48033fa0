// The words, and the light that moves through them while the audio plays.

import { element } from "./dom.js";

const SILENCE = 4; // seconds without words that are shown as three dots
const DOUBT = 0.5; // quality of a line that is more likely wrong than right
const HANDS_OFF = 4_000; // milliseconds for which a reader who scrolls is left alone
const RIGHT_TO_LEFT = /^[^\p{L}]*[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

export const isDoubtful = ({ quality }) => typeof quality === "number" && quality < DOUBT;

/** Fills `list` with a document's lines and lets them follow `audio` until `signal` ends. */
export function singAlong(list, audio, song, signal) {
  const lines = withSilences(linesOf(song), song.metadata?.duration).map(drawn);
  list.replaceChildren(...lines.map(({ item }) => item));
  list.classList.remove("live");
  list.scrollTop = 0;

  let current = -1;
  let leftAloneUntil = 0;

  function follow() {
    const now = audio.currentTime;
    const index = lines.findLastIndex(({ start }) => start <= now);
    if (index !== current) change(index);
    for (const { node, start, end } of lines[current]?.words ?? []) light(node, (now - start) / (end - start || 1));
  }

  function change(index) {
    current = index;
    lines.forEach(({ item }, at) => {
      item.classList.toggle("past", at < index);
      item.classList.toggle("current", at === index);
    });
    if (index >= 0 && performance.now() > leftAloneUntil) centre(list, lines[index].item);
  }

  function frame() {
    if (signal.aborted || audio.paused) return;
    follow();
    requestAnimationFrame(frame);
  }

  function playFrom(time) {
    if (!audio.currentSrc && !audio.src) return;
    leftAloneUntil = 0;
    audio.currentTime = time + 0.001; // just inside the word, whatever the rounding
    start();
  }

  // A seek before the audio has loaded may lead to a refusal to play: the audio's own error tells it.
  const start = () => audio.play().catch(() => {});

  const on = (target, name, then) => target.addEventListener(name, then, { signal });
  on(audio, "play", () => {
    list.classList.add("live");
    requestAnimationFrame(frame);
  });
  on(audio, "seeking", () => {
    list.classList.add("live");
    follow();
  });
  on(audio, "pause", follow);
  on(audio, "ended", follow);

  for (const gesture of ["wheel", "touchmove"]) {
    list.addEventListener(gesture, () => (leftAloneUntil = performance.now() + HANDS_OFF), { signal, passive: true });
  }
  on(list, "click", ({ target }) => {
    if (getSelection()?.toString()) return; // the reader marks text
    const word = target.closest(".word");
    if (word) playFrom(Number(word.dataset.start));
  });
  on(list, "keydown", (event) => {
    const item = event.target.closest("li");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!item || !(step || event.key === "Enter")) return;
    event.preventDefault();
    if (!step) return playFrom(Number(item.dataset.start));
    const stops = [...list.querySelectorAll("li[tabindex]")];
    const next = stops[stops.indexOf(item) + step];
    if (!next) return;
    item.tabIndex = -1;
    next.tabIndex = 0;
    leftAloneUntil = performance.now() + HANDS_OFF;
    next.focus({ preventScroll: true });
    centre(list, next);
  });
  on(document, "keydown", (event) => {
    const taken = event.target.closest("input, select, textarea, button, a, audio, [contenteditable]");
    if (event.key !== " " || taken || event.ctrlKey || event.metaKey || event.altKey || audio.hidden) return;
    event.preventDefault();
    if (audio.paused) start();
    else audio.pause();
  });
}

/** The document's lines; a document from before there were lines is broken at its pauses. */
function linesOf({ lines, words = [] }) {
  if (Array.isArray(lines)) return lines.filter(({ words }) => words?.length);
  const broken = [];
  words.forEach((word, at) => {
    const last = broken.at(-1);
    if (!last || last.words.length >= 8 || word.start - words[at - 1].end > 0.8) broken.push({ words: [word] });
    else last.words.push(word);
  });
  return broken.map(({ words }) => ({
    text: words.map(({ word }) => word.trim()).join(" "),
    start: words[0].start,
    end: words.at(-1).end,
    words,
  }));
}

function withSilences(lines, duration) {
  const all = [];
  let end = 0;
  const rest = (until) => {
    if (until - end < SILENCE) return;
    const third = (until - end) / 3;
    const dots = [0, 1, 2].map((i) => ({ word: "•", start: end + i * third, end: end + (i + 1) * third }));
    all.push({ text: "• • •", start: end, end: until, words: dots, silent: true });
  };
  for (const line of lines) {
    rest(line.start);
    all.push(line);
    end = line.end;
  }
  if (lines.length) rest(duration ?? 0);
  return all;
}

function drawn(line, index, all) {
  const { text, start, words, silent } = line;
  const item = element("li", { className: silent ? "line silence" : "line", dir: "auto" });
  item.dataset.start = start;
  if (isDoubtful(line)) {
    item.classList.add("doubtful");
    item.ariaDescription = "heard unsurely";
  }
  if (silent) item.ariaHidden = "true";
  else item.tabIndex = all.findIndex((line) => !line.silent) === index ? 0 : -1;
  const whole = RIGHT_TO_LEFT.test(text);
  const spans = pieces(text, words).map((piece) => {
    if (typeof piece === "string") {
      item.append(piece);
      return null;
    }
    const node = element("span", { className: "word", textContent: piece.word.trim() });
    node.classList.toggle("leftwards", /\p{L}/u.test(piece.word) ? RIGHT_TO_LEFT.test(piece.word) : whole);
    node.dataset.start = piece.start;
    item.append(node);
    return { node, start: piece.start, end: piece.end };
  });
  return { item, start, words: spans.filter(Boolean) };
}

/** A line's words with what its text has between them: spaces in English, nothing in Japanese. */
function pieces(text, words) {
  const found = [];
  let at = 0;
  for (const word of words) {
    const bare = word.word.trim();
    const place = text.indexOf(bare, at);
    if (place < 0) return words.flatMap((each, index) => (index ? [" ", each] : [each]));
    if (place > at) found.push(text.slice(at, place));
    found.push(word);
    at = place + bare.length;
  }
  return at < text.length ? [...found, text.slice(at)] : found;
}

function light(node, share) {
  const sung = Math.min(Math.max(share, 0), 1);
  node.style.setProperty("--sung", sung.toFixed(3));
  node.classList.toggle("sung", sung === 1);
  node.classList.toggle("singing", sung > 0 && sung < 1);
}

function centre(list, item) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  list.scrollTo({
    top: item.offsetTop - (list.clientHeight - item.offsetHeight) / 2,
    behavior: calm ? "instant" : "smooth",
  });
}
