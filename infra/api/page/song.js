// A finished song: its title, its audio, its words, its files.

import { call, insist, jobPath, webAddress } from "./api.js";
import { $, clock, element, say } from "./dom.js";
import { isDoubtful, singAlong } from "./player.js";
import { ownFile } from "./requests.js";

const FORMATS = {
  lrc: ["LRC", "lyrics for music players"],
  elrc: ["Enhanced LRC", "with a time for each word"],
  srt: ["SRT", "subtitles"],
  vtt: ["VTT", "subtitles for the web"],
  ass: ["ASS", "karaoke for video players"],
  ttml: ["TTML", "lyrics as Apple Music takes them"],
  txt: ["TXT", "only the words"],
  json: ["JSON", "every word with its times"],
  instrumental: ["Music", "without the voice, to sing to"],
  vocals: ["Voice", "without the music"],
};
const STEMS = { instrumental: "instrumental.flac", vocals: "vocals.flac" };

const audio = $("audio");

export function showSong(id, progress, song, signal) {
  const { metadata = {}, language } = song;
  const title = metadata.title || progress.title || "Your song";
  const facts = [progress.artist, metadata.duration > 0 && clock(metadata.duration), languageName(language)];
  say($("song-title"), title);
  say($("song-facts"), facts.filter(Boolean).join(" · "));
  say($("song-quality"), quality(song));
  say($("song-notice"), "");
  const silent = !song.words?.length;
  const notes = [song.notes ?? []].flat().filter((note) => typeof note === "string" && note);
  if (silent && !notes.length) notes.push("No singing was heard in this recording.");
  $("song-notes").replaceChildren(...notes.map((note) => element("li", { textContent: note, dir: "auto" })));
  $("song").classList.toggle("wordless", silent);
  if (language) $("lines").lang = language;
  else $("lines").removeAttribute("lang");

  load(id, progress, signal);
  singAlong($("lines"), audio, song, signal);
  showFiles(id, title, signal);
  return title;
}

/** The song's quality in words; a document from before there was one says nothing. */
function quality({ metadata, lines }) {
  const share = metadata?.quality;
  if (typeof share !== "number") return "";
  const figure = `About ${Math.round(share * 100)} % of the words should be right and in time.`;
  return lines?.some?.(isDoubtful) ? `${figure} Lines beside a dotted edge are the least sure.` : figure;
}

function load(id, progress, signal) {
  const own = ownFile(id);
  const source = webAddress(progress.audioUrl) ?? (own && URL.createObjectURL(own));
  audio.hidden = !source;
  if (!source) return say($("song-notice"), "The audio is no longer kept here; its words are.");
  audio.addEventListener("error", () => say($("song-notice"), "The audio cannot be played; the words are all here."), { signal });
  audio.addEventListener("playing", () => say($("song-notice"), ""), { signal });
  audio.src = source;
  signal.addEventListener("abort", () => {
    audio.pause();
    audio.removeAttribute("src");
    audio.load();
    if (source.startsWith("blob:")) URL.revokeObjectURL(source);
  });
}

async function showFiles(id, title, signal) {
  $("files").hidden = true;
  let files;
  try {
    ({ files } = await insist(() => call(jobPath(id, "/files"), { signal }), { signal, away: () => {} }));
  } catch {
    return; // refused, or the reader went on to another song
  }
  const rank = (format) => [...Object.keys(FORMATS), format].indexOf(format);
  const links = Object.entries(files ?? {})
    .sort(([one], [other]) => rank(one) - rank(other))
    .map(([format, address]) => [FORMATS[format] ?? [format.toUpperCase(), ""], format, webAddress(address)])
    .filter(([, , address]) => address)
    .map(([[name, use], format, href]) =>
      element("li", {},
        element("a", { href, download: `${title}.${STEMS[format] ?? format}` },
          element("b", { textContent: name }), " ", element("span", { textContent: use }))));
  $("files-list").replaceChildren(...links);
  $("files").hidden = !links.length;
}

function languageName(code) {
  if (!code) return "";
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(code);
  } catch {
    return code;
  }
}
