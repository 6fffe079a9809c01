// Lists streams and tasks, and keeps the buttons where they are while their numbers change: rows are known by what they name.
"use strict";

const STREAMS_PERIOD_MS = 5000;
const ROWS_MAX = 2000;

// What a row names, as nothing else does.
const key = (...names) => JSON.stringify(names);

function ago(seconds) {
  return `${span(Math.round(seconds))} ago`;
}

function perSecond(value) {
  return value >= 10 || value === 0 ? short.format(Math.round(value)) : value.toFixed(value < 0.1 ? 3 : 1);
}

// Numbers of one instance, or of several together.
function numbers(instances) {
  const sum = (of) => instances.reduce((total, instance) => total + of(instance), 0);
  const dialects = new Set(instances.flatMap((instance) => instance.dialects));
  return [
    [perSecond(sum((instance) => instance.samples_per_second)), "n"],
    [whole.format(sum((instance) => instance.series)), "n"],
    [ago(Math.min(...instances.map((instance) => instance.last_seen_seconds))), "n"],
    [[...dialects].sort().join(", ")],
  ];
}

// A row: what it names, its cells as [text, class], the address of its board and what that is called.
function streamRows(streams) {
  return streams.flatMap((stream) => {
    const all = stream.applications.flatMap((application) => application.instances);
    const first = {
      key: key(stream.name), className: "of-stream", url: stream.url, board: `stream ${stream.name}`,
      cells: [[stream.name], [""], [""], ["", "n"], [""], ...numbers(all)],
    };
    return [first, ...stream.applications.flatMap((application) => {
      const named = [stream.name, application.name, application.type];
      const row = {
        key: key(...named), className: "of-application", url: application.url,
        board: `application ${application.name} of stream ${stream.name}`,
        cells: [[""], [application.name || "–"], [application.type || "–"], ["", "n"], [""], ...numbers(application.instances)],
      };
      return [row, ...application.instances.map((instance) => ({
        key: key(...named, instance.index, instance.guid), className: "of-instance", url: instance.url,
        board: `instance ${instance.guid} of ${application.name} of stream ${stream.name}`,
        cells: [[""], [""], [""], [instance.index || "–", "n"], [instance.guid || "–", "code"], ...numbers([instance])],
      }))];
    })];
  });
}

function taskRows(tasks) {
  return tasks.flatMap((task) => [{
    key: key(task.name), className: "of-task", url: task.url, board: `task ${task.name}`,
    cells: [[task.name], [""], [""], [""], ["", "n"], [""], ...numbers(task.executions)],
  }, ...task.executions.map((execution) => ({
    key: key(task.name, execution.id, execution.application, execution.type, execution.index, execution.guid),
    className: "of-execution", url: execution.url, board: `execution ${execution.id} of task ${task.name}`,
    cells: [[""], [execution.id || "–"], [execution.application || "–"], [execution.type || "–"],
      [execution.index || "–", "n"], [execution.guid || "–", "code"], ...numbers([execution])],
  }))]);
}

function button(link, url, board) {
  link.hidden = !url;
  if (url && link.getAttribute("href") !== url) link.href = url;
  if (board) link.setAttribute("aria-label", `board of ${board}`);
}

function newRow(wanted) {
  const row = element("tr", undefined, wanted.className);
  row.append(...wanted.cells.map(([, className]) => element("td", "", className)));
  const cell = element("td");
  cell.append(element("a", "board", "button"));
  row.append(cell);
  return row;
}

function renew(id, rows) {
  const body = $(id).tBodies[0];
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  rows.forEach((wanted, at) => {
    const row = known.get(wanted.key) ?? newRow(wanted);
    known.delete(wanted.key);
    row.dataset.key = wanted.key;
    wanted.cells.forEach(([text], cell) => {
      if (row.cells[cell].textContent !== text) row.cells[cell].textContent = text;
    });
    button(row.querySelector("a"), wanted.url, wanted.board);
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
  });
  known.forEach((row) => row.remove());
}

function showStreams({ streams, tasks, urls, omitted }) {
  let left = ROWS_MAX;
  let leftOut = omitted > 0 ? `${whole.format(omitted)} series are of streams and tasks for which there was no room. ` : "";
  for (const [id, rows] of [["streams", streamRows(streams)], ["tasks", taskRows(tasks)]]) {
    $(`${id}-section`).hidden = rows.length === 0;
    button($(`${id}-board`), urls?.[id]);
    renew(id, rows.slice(0, left));
    if (rows.length > left) leftOut += `${whole.format(rows.length - left)} rows of ${id} are left out here. `;
    left = Math.max(0, left - rows.length);
  }
  $("rows-left-out").textContent = leftOut;
  $("rows-left-out").hidden = leftOut === "";
}

async function refreshStreams() {
  try {
    showStreams(await (await fetch("/api/v1/streams", { cache: "no-store" })).json());
  } catch {
    // The rest of the page says that there is no answer.
  }
  setTimeout(refreshStreams, STREAMS_PERIOD_MS);
}
refreshStreams();
