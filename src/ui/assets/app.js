// Polls the status API and shows it. Everything from the network is put in as text, never as markup.
"use strict";

const PERIOD_MS = 2000;
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
let before = null;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function number(value) {
  const cell = element("td", value < 1e7 ? whole.format(value) : short.format(value), "n");
  cell.title = whole.format(value);
  return cell;
}

function rate(now, then, seconds) {
  if (then === undefined || seconds <= 0) return "–";
  const perSecond = Math.max(0, now - then) / seconds;
  return perSecond >= 10 || perSecond === 0 ? short.format(Math.round(perSecond)) : perSecond.toFixed(1);
}

function reasons(counts) {
  const cell = element("td");
  const list = element("ul");
  for (const [reason, samples] of Object.entries(counts).sort((a, b) => b[1] - a[1])) {
    list.append(element("li", `${reason} ${whole.format(samples)}`));
  }
  cell.append(list);
  return cell;
}

function sum(counts) {
  return Object.values(counts).reduce((total, samples) => total + samples, 0);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

function fill(id, rows) {
  $(id).tBodies[0].replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells);
    return row;
  }));
}

function show(status, seconds) {
  const old = before ?? { inputs: [], outputs: [], ledger: {} };
  const oldInput = Object.fromEntries(old.inputs.map((input) => [input.format, input.accepted]));
  const oldOutput = Object.fromEntries(old.outputs.map((output) => [output.name, output.delivered]));

  $("version").textContent = status.build.version;
  $("rate-in").textContent = rate(status.ledger.accepted, old.ledger.accepted, seconds);
  $("accepted").textContent = short.format(status.ledger.accepted);
  $("series").textContent = short.format(status.series.known);
  $("log-bytes").textContent = bytes(status.log.bytes);
  $("log-note").textContent = `log, of ${bytes(status.log.bytes_max)}`;
  $("uptime").textContent = span(status.uptime_seconds);

  const healthy = status.log.healthy && status.ledger.balanced;
  $("health").className = healthy ? "good" : "bad";
  $("health").textContent = !status.log.healthy ? `log stopped: ${status.log.error}`
    : status.ledger.balanced ? "● every sample is accounted for" : "the ledger does not balance";

  fill("inputs", status.inputs.filter((input) => input.accepted || sum(input.rejected)).map((input) => [
    element("td", input.format),
    element("td", rate(input.accepted, oldInput[input.format], seconds), "n"),
    number(input.accepted),
    number(sum(input.rejected)),
    reasons(input.rejected),
  ]));

  fill("outputs", status.outputs.map((output) => {
    const address = element("td");
    address.append(element("code", output.address));
    const state = element("td", "", output.state === "ok" ? "good" : output.state === "misconfigured" ? "bad" : "warn");
    state.textContent = output.state === "ok" ? "delivering" : `${output.state}: ${output.last_error}`;
    return [
      element("td", output.name),
      address,
      element("td", rate(output.delivered, oldOutput[output.name], seconds), "n"),
      number(output.delivered),
      number(output.pending),
      number(sum(output.dropped)),
      number(output.dead_letters.samples),
      element("td", span(output.lag_seconds), "n"),
      state,
    ];
  }));
  $("no-outputs").hidden = status.outputs.length > 0;

  fill("abandoned", status.abandoned.map((output) => [
    element("td", output.name),
    number(output.undelivered),
    number(output.held),
  ]));
  $("abandoned").hidden = status.abandoned.length === 0;

  fill("ledger", status.outputs.map((output) => [
    element("td", output.name),
    number(status.ledger.accepted),
    number(output.delivered),
    number(sum(output.dropped)),
    number(output.pending),
    reasons(output.dropped),
    reasons(output.losses),
    number(output.resent),
  ]));

  fill("sources", status.sources.map((source) => [
    element("td", source.address),
    element("td", source.format),
    number(source.accepted),
    element("td", `${span(source.last_seen_seconds)} ago`, "n"),
  ]));
}

let askedAt = performance.now();
async function refresh() {
  try {
    const answer = await fetch("/api/v1/status", { cache: "no-store" });
    const status = await answer.json();
    const now = performance.now();
    show(status, (now - askedAt) / 1000);
    askedAt = now;
    before = status;
  } catch (error) {
    $("health").className = "bad";
    $("health").textContent = `no answer from the gateway: ${error.message}`;
  }
  setTimeout(refresh, PERIOD_MS);
}
refresh();
