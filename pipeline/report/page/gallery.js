// Test clips: a player, and below it the truth and the answers of the chosen runs, a line for each class, with a playhead across them.

const SYMBOL = { true: "", right: "✓", wrong: "✕", false: "+", missed: "–" };
const MEANING = { true: "true", right: "right", wrong: "another class", false: "none there", missed: "missed" };
const TRACK = { audio_visual: "", audio: "audio", visual: "visual" };

function makeCards() {
  return DATA.clips.map((clip) => {
    const lanes = element("div", { class: "lanes" });
    const name = `${clip.clip}${DATA.clips.filter((other) => other.clip === clip.clip).length > 1 ? `, row ${clip.row}` : ""}`;
    const node = element("article", { class: "card", "aria-label": `Clip ${name}` }, element("h3", {}, ...breaking(name)), player(clip), lanes);
    const card = { clip, node, lanes, name, video: node.querySelector("video"), position: 0, length: clip.segments * clip.seconds };
    wire(card);
    return card;
  });
}

function player(clip) {
  if (!clip.media.src) return element("p", { class: "no-media" }, `Nothing to play: ${clip.media.why}.`);
  return element("video", { controls: "", preload: "metadata", playsinline: "", src: clip.media.src, "aria-label": `Clip ${clip.clip}` });
}

function wire(card) {
  const lanes = card.lanes;
  build(lanes, { role: "slider", tabindex: "0", "aria-label": `Position in ${card.name}`, "aria-valuemin": 0, "aria-valuemax": card.length }, []);
  const point = (event) => {
    const box = lanes.querySelector(".over").getBoundingClientRect();
    seek(card, ((event.clientX - box.left) / box.width) * card.length);
  };
  lanes.addEventListener("pointerdown", point);
  lanes.addEventListener("pointermove", (event) => event.buttons && point(event));
  lanes.addEventListener("keydown", (event) => {
    const moved = { ArrowRight: card.position + card.clip.seconds, ArrowLeft: card.position - card.clip.seconds, Home: 0, End: card.length }[event.key];
    if (moved !== undefined) seek(card, moved);
    else if (event.key === " " && card.video) card.video.paused ? card.video.play() : card.video.pause();
    else return;
    event.preventDefault();
  });
  if (!card.video) return;
  const follow = () => {
    show(card, card.video.currentTime - card.clip.media.offset);
    if (!card.video.paused && !card.video.ended) requestAnimationFrame(follow);
  };
  for (const name of ["play", "seeked", "timeupdate", "pause"]) card.video.addEventListener(name, follow);
  card.video.addEventListener("error", () => {
    card.video.replaceWith(element("p", { class: "no-media film" }, "This browser cannot play the clip."));
    card.video = null;
  });
  if (card.clip.media.offset) card.video.addEventListener("loadedmetadata", () => seek(card, 0), { once: true });
}

function seek(card, seconds) {
  const position = Math.min(card.length, Math.max(0, seconds));
  show(card, position);
  if (card.video) card.video.currentTime = card.clip.media.offset + position;
}

function show(card, seconds) {
  card.position = Math.min(card.length, Math.max(0, seconds));
  card.lanes.querySelector(".playhead").style.left = `${(100 * card.position) / card.length}%`;
  card.lanes.setAttribute("aria-valuenow", card.position.toFixed(1));
  card.lanes.setAttribute("aria-valuetext", `${card.position.toFixed(1)} seconds; ${spoken(card)}`);
}

// The events under the playhead, in words; spans are in segments, and those of detections may begin and end within one.
function spoken(card) {
  const moment = Math.min(card.clip.segments - 1e-6, card.position / card.clip.seconds); // in segments
  const at = (spans) => {
    const here = spans.filter(([start, end]) => start <= moment && moment < end);
    return here.map(([, , label, kind]) => `${DATA.classes[label]}${kind === "true" ? "" : ` (${MEANING[kind]})`}`).join(", ") || "background";
  };
  return card.spoken.map(({ name, spans }) => `${name}: ${at(spans)}`).join("; ");
}

// Track by track: the truth, then the answer of each chosen run. A truth is taken from a chosen run where one has the track.
function drawLanes(card, chosen) {
  const { clip, lanes } = card;
  const parts = [];
  let truth = [];
  card.spoken = [];
  const add = (signs, name, further, spans, scores) => {
    card.spoken.push({ name, spans });
    parts.push(element("div", { class: "lane-name" }, ...signs, ...breaking(name + further)), ...classLines(clip, spans, truth));
    if (scores) parts.push(line("score", element("div", { class: "strip", "aria-hidden": "true" }, ...scores.map((score) => element("i", { style: `height: ${100 * score}%` })))));
  };
  const known = chosen.filter(({ run }) => clip.lanes[run.name]);
  const answers = known.length ? known.map(({ run }) => clip.lanes[run.name]) : [Object.values(clip.lanes)[0]];
  for (const track of new Set(answers.flat().map((lane) => lane.track))) {
    truth = answers.flat().find((lane) => lane.track === track).truth;
    const named = (name) => (TRACK[track] ? `${name}, ${TRACK[track]}` : name);
    add([], named("Truth"), "", truth, null);
    for (const { side, run } of known) {
      const lane = clip.lanes[run.name].find((one) => one.track === track);
      if (lane) add([sign(side)], named(run.name), `, seed ${run.shownSeed}: ${clip.right[run.name]} % ${run.clipScore}`, lane.spans, lane.scores);
    }
  }
  for (const { side, run } of chosen.filter((entry) => !known.includes(entry))) {
    parts.push(element("div", { class: "lane-name" }, sign(side), ...breaking(`${run.name}: no features of this clip`)));
  }
  const times = [0, clip.segments / 2, clip.segments].map((segment) => element("span", {}, `${shortNumber(Number((segment * clip.seconds).toFixed(1)))} s`));
  parts.push(line("", element("div", { class: "ticks", "aria-hidden": "true" }, ...times)));
  lanes.replaceChildren(...parts, element("div", { class: "over" }, element("div", { class: "playhead" })));
  show(card, card.position);
}

// A line of a timeline: what it is about, and beside it what happens.
function line(name, content) {
  return element("div", { class: "line" }, element("span", { class: "class", title: name }, name), content);
}

// One line for each class of the spans, those of the truth first; more where spans of one class overlap.
function classLines(clip, spans, truth) {
  const present = new Set(spans.map(([, , label]) => label));
  const labels = [...new Set([...truth.map(([, , label]) => label), ...present])].filter((label) => present.has(label));
  if (!labels.length) return [line("no event", element("div", { class: "lane" }))];
  return labels.flatMap((label) =>
    stacked(spans.filter((span) => span[2] === label)).map((level, row) =>
      line(row ? "" : DATA.classes[label], element("div", { class: "lane" }, ...level.map((span) => spanBar(clip, span)))),
    ),
  );
}

function spanBar(clip, [start, end, label, kind]) {
  const place = `left: ${(100 * start) / clip.segments}%; width: ${(100 * (end - start)) / clip.segments}%`;
  const title = `${DATA.classes[label]}, ${MEANING[kind]}, ${shortNumber(start * clip.seconds)} to ${shortNumber(end * clip.seconds)} s`;
  return element("div", { class: `span ${kind}`, style: place, title }, element("b", {}, SYMBOL[kind]));
}

// Spreads spans that overlap in time (detections of one class) over levels, so that no two on a level overlap.
function stacked(spans) {
  const levels = [[]];
  for (const span of spans) {
    let level = levels.find((taken) => taken.every(([start, end]) => span[1] <= start || end <= span[0]));
    if (!level) levels.push((level = []));
    level.push(span);
  }
  return levels;
}

// Filters -------------------------------------------------------------------------------------------------------------------------------

function offerFilters(chosen) {
  const classSelect = document.getElementById("filter-class");
  const answerSelect = document.getElementById("filter-answer");
  const present = [...new Set(DATA.clips.flatMap((clip) => clip.classes))].sort((x, y) => x - y);
  fill(classSelect, [["", "all"], ...present.map((label) => [String(label), DATA.classes[label]])], classSelect.value || "");
  const [a, b] = chosen.map(({ run }) => run.name);
  const answers = [["", "all"], ["right", `${a}: all right`], ["wrong", `${a}: not all right`]];
  if (b && b !== a && RUNS.get(a).task === RUNS.get(b).task) answers.push(["better", `${a} better than ${b}`], ["worse", `${b} better than ${a}`]);
  const before = answerSelect.value;
  fill(answerSelect, answers, answers.some(([value]) => value === before) ? before : "");
}

function passes(clip, label, answer, [a, b]) {
  if (label && !clip.classes.includes(Number(label))) return false;
  const right = clip.right[a.run.name];
  const other = b && clip.right[b.run.name];
  if (answer === "right") return right === 100;
  if (answer === "wrong") return right < 100;
  if (answer === "better") return right > other;
  if (answer === "worse") return right < other;
  return true;
}

function filterCards(cards, chosen) {
  const label = document.getElementById("filter-class").value;
  const answer = document.getElementById("filter-answer").value;
  let shown = 0;
  for (const card of cards) {
    const passed = passes(card.clip, label, answer, chosen);
    card.node.hidden = !passed;
    if (!passed && card.video) card.video.pause();
    shown += passed;
  }
  document.getElementById("gallery-count").textContent = `${shown} of ${cards.length} clips`;
}
