// The page of `gridwhistle backtest --plot`: one device or group at a time. Times are the site's, written as if they were UTC.
const page = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const style = getComputedStyle(document.documentElement);
const colour = name => style.getPropertyValue(`--${name}`).trim();
const WORDS = { critical: "紧急 critical", high: "重要 high", medium: "一般 medium", low: "次要 low", notice: "提示 notice" };
const PANEL = 210, ROW = 18, STRIP_TOP = 10, LEFT = 92, RIGHT = 24;
const LINES = ["#155e86", "#7b4fa3", "#2f7d4f", "#a2542f", "#4a6b8a", "#8a7a2a", "#a33a6a", "#3a8a8a", "#5f5f9f", "#6f7f3f", "#9f5f5f", "#3f6f9f"];
let chart = null;

const two = number => String(number).padStart(2, "0");
function time(ms, short) {
  const at = new Date(ms);
  const day = `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
  const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return short ? `${day} ${clock}` : `${day} ${clock}:${two(at.getUTCSeconds())}`;
}
const number = value => value === null ? "" : Number(value.toPrecision(6)).toLocaleString("en-US", { maximumFractionDigits: 6 });
function span(ms) {
  const minutes = ms / 60000;
  if (minutes < 1) return `${Math.round(ms / 1000)} 秒 s`;
  if (minutes < 120) return `${Number(minutes.toFixed(1))} 分 min`;
  return minutes < 2880 ? `${Number((minutes / 60).toFixed(1))} 时 h` : `${Number((minutes / 1440).toFixed(1))} 天 d`;
}
function put(parent, tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function head() {
  const box = $("head");
  put(box, "h1", "回测 Backtest");
  put(box, "b", page.title);
  put(box, "span", `${time(page.from, true)} … ${time(page.to, true)}（${page.zone}）`);
  const count = page.against === null ? `${page.alarms} 次告警 alarms` : `${page.alarms} 次告警 alarms，原规则 against ${page.against}`;
  put(box, "b", count);
  document.title = `回测 ${page.title}`;
}

function list() {
  const box = $("subjects");
  for (const subject of page.subjects) {
    const button = put(box, "button", undefined, { "data-subject": subject.id, "aria-pressed": "false" });
    const name = put(button, "span", subject.name || subject.id);
    put(name, "small", subject.name && subject.name !== subject.id ? `${subject.id} ${subject.kind}` : subject.kind);
    put(button, "output", String(subject.alarms_count));
    button.addEventListener("click", () => show(subject));
  }
  if (page.left_out) put(box, "p", `另有 ${page.left_out} 个告警较少的未画 and ${page.left_out} more with fewer alarms`);
  if (!page.subjects.length) put(box, "p", "没有可画的数据 nothing to draw");
}

function legend(subject) {
  const box = $("legend");
  box.replaceChildren();
  const drawn = new Set(subject.areas.map(area => area.priority));
  for (const priority of Object.keys(WORDS).filter(each => drawn.has(each))) {
    const item = put(box, "span");
    put(item, "i", undefined, { style: `background:${colour(priority)}` });
    item.append(WORDS[priority]);
  }
}

// An alarm shorter than a pixel is a pixel wide: at every zoom each can be seen.
function bar(params, api) {
  const [left, middle] = api.coord([api.value(0), api.value(2)]);
  const [right] = api.coord([api.value(1), api.value(2)]);
  const box = params.coordSys, strip = api.value(3) < 0;
  const height = strip ? box.height : api.size([0, 1])[1] * .72;
  const shape = { x: left, y: strip ? box.y : middle - height / 2, width: Math.max(1, right - left), height };
  const clipped = echarts.graphic.clipRectByRect(shape, box);
  return clipped && { type: "rect", shape: clipped, style: { fill: api.visual("color"), opacity: strip ? .2 : 1 } };
}

function bars(areas, place, row) {
  return {
    type: "custom", xAxisIndex: place, yAxisIndex: place, z: 1, silent: true, renderItem: bar, clip: true,
    encode: { x: [0, 1], y: row === undefined ? [] : 2 }, tooltip: { show: false },
    data: areas.map(area => ({ value: [area.from, area.to, row ?? NaN, row === undefined ? -1 : row], itemStyle: { color: colour(area.priority) } })),
  };
}

// Shaded where the metric of the alarm's rule is drawn; what has no panel of its own is shaded in the first.
function shaded(subject, panel, place) {
  const drawn = new Set(subject.panels.map(each => each.metric));
  return subject.areas.filter(area => !area.against && (drawn.has(area.metric) ? area.metric === panel.metric : place === 0));
}

const whole = limit => limit.from === page.from && limit.to === page.to;

// A label says a limit once; a dashed line across the whole panel, or from one change of the threshold to the next.
function limits(panel, place) {
  const across = [...new Map(panel.limits.filter(whole).map(limit => [limit.value, limit])).values()].sort((a, b) => b.value - a.value);
  const parts = panel.limits.filter(limit => !whole(limit));
  const look = limit => ({ color: colour(limit.priority), type: "dashed", width: 1.5 });
  const label = limit => ({ color: colour(`${limit.priority}-ink`), backgroundColor: "rgba(255,255,255,.8)", padding: [1, 3] });
  const common = { type: "line", xAxisIndex: place, yAxisIndex: place, symbol: "none", silent: true, tooltip: { show: false }, z: 3 };
  return [
    {
      // The ends of a line no one sees keep every limit on the scale.
      ...common, lineStyle: { width: 0 }, data: panel.limits.map(limit => [limit.from, limit.value]),
      markLine: {
        silent: true, symbol: "none", animation: false,
        data: across.map((limit, n) => ({
          yAxis: limit.value, lineStyle: look(limit),
          label: { ...label(limit), position: n % 2 ? "insideEndBottom" : "insideEndTop", formatter: `${limit.name} ${number(limit.value)}` },
        })),
      },
    },
    ...parts.map((limit, k) => ({
      ...common, lineStyle: look(limit), data: [[limit.from, limit.value], [limit.to, limit.value]],
      markPoint: {
        silent: true, symbolSize: 0, data: [{ coord: [limit.from, limit.value] }],
        label: { ...label(limit), show: true, position: k % 2 ? "insideBottomLeft" : "insideTopLeft", align: "left", formatter: `${limit.name} ${number(limit.value)}` },
      },
    })),
  ];
}

function series(subject, panel, k) {
  const place = k + 1;
  return [
    bars(shaded(subject, panel, k), place),
    ...panel.lines.map((line, n) => ({
      type: "line", xAxisIndex: place, yAxisIndex: place, name: line.name, data: line.points, z: 2,
      showSymbol: line.points.length < 40, symbol: "circle", symbolSize: 5, connectNulls: false,
      step: panel.boolean ? "end" : false,
      lineStyle: { color: LINES[n % LINES.length], width: 1.4 }, itemStyle: { color: LINES[n % LINES.length] },
    })),
    ...limits(panel, place),
  ];
}

function tooltip(subject) {
  return points => {
    const at = points[0].axisValue;
    const rows = [time(at)];
    for (const point of points) {
      const panel = subject.panels[point.axisIndex - 1];
      if (!panel || point.seriesType !== "line" || !point.seriesName || point.value[1] === null) continue;
      if (!panel.lines.some(line => line.name === point.seriesName)) continue;
      const value = panel.boolean ? (point.value[1] ? "是 yes" : "否 no") : `${number(point.value[1])} ${panel.unit}`;
      rows.push(`${panel.name} ${panel.lines.length > 1 ? `${point.seriesName} ` : ""}${value}`);
    }
    for (const area of subject.areas.filter(each => each.from <= at && at <= each.to).slice(0, 5)) {
      rows.push(`${area.against ? "原 against" : "告警 alarm"} ${area.name} ${WORDS[area.priority]}`);
    }
    return rows.join("\n");
  };
}

const topOf = k => STRIP_TOP + rows.length * ROW + 34 + k * PANEL;
const rows = page.against === null ? ["告警 alarms"] : ["原规则 against", "新规则 new"];

function strip(subject) {
  const sorted = against => subject.areas.filter(area => area.against === against);
  return page.against === null ? [bars(sorted(false), 0, 0)] : [bars(sorted(true), 0, 0), bars(sorted(false), 0, 1)];
}

function option(subject) {
  const count = subject.panels.length, every = [...Array(count + 1).keys()];
  const axis = { color: colour("mute"), hideOverlap: true };
  const dates = { year: "{yyyy}", month: "{yyyy}-{MM}", day: "{MM}-{dd}", hour: "{HH}:{mm}", minute: "{HH}:{mm}", second: "{HH}:{mm}:{ss}" };
  return {
    useUTC: true, animation: false, textStyle: { fontFamily: colour("font"), color: colour("text") },
    axisPointer: { link: [{ xAxisIndex: "all" }] },
    tooltip: { trigger: "axis", renderMode: "richText", confine: true, textStyle: { fontFamily: colour("font") }, formatter: tooltip(subject) },
    dataZoom: [
      { type: "inside", xAxisIndex: every, filterMode: "none" },
      { type: "slider", xAxisIndex: every, filterMode: "none", height: 20, bottom: 6, left: LEFT, right: RIGHT, showDataShadow: false, labelFormatter: ms => time(ms, true) },
    ],
    grid: every.map(k => k === 0
      ? { left: LEFT, right: RIGHT, top: STRIP_TOP, height: rows.length * ROW }
      : { left: LEFT, right: RIGHT, top: topOf(k - 1), height: PANEL - 62 }),
    xAxis: every.map(k => ({
      type: "time", gridIndex: k, min: page.from, max: page.to, axisLine: { lineStyle: { color: colour("line-2") } },
      axisTick: { show: k === count }, axisLabel: { ...axis, show: k === count, formatter: dates },
      splitLine: { show: true, lineStyle: { color: colour("line") } },
    })),
    yAxis: every.map(k => {
      const panel = subject.panels[k - 1];
      if (!panel) return { type: "category", gridIndex: k, data: rows, axisTick: { show: false }, axisLine: { show: false }, axisLabel: { color: colour("mute"), fontSize: 11 } };
      return {
        type: "value", gridIndex: k, scale: true, name: `${panel.name}${panel.unit ? ` (${panel.unit})` : ""}`,
        nameTextStyle: { align: "left", padding: [0, 0, 0, -70], color: colour("text") },
        min: panel.boolean ? 0 : undefined, max: panel.boolean ? 1 : undefined, interval: panel.boolean ? 1 : undefined,
        axisLabel: { ...axis, formatter: value => panel.boolean ? (value ? "是 yes" : "否 no") : number(value) },
        splitLine: { lineStyle: { color: colour("line") } },
      };
    }),
    series: [...strip(subject), ...subject.panels.flatMap((panel, k) => series(subject, panel, k))],
  };
}

function severities(list) {
  const shown = list.slice(0, 3).map(each => WORDS[each]).join(" → ");
  return list.length > 3 ? `${shown} …（变级 changed ${list.length - 1} 次）` : shown;
}

function alarms(subject) {
  const table = $("alarms");
  table.replaceChildren();
  const heads = put(put(table, "thead"), "tr");
  for (const [word, side] of [["规则 rule"], ["级别 severity"], ["触发 raised"], ["解除 cleared"], ["持续 for", "n"], ["首值 first", "n"], ["极值 peak", "n"]]) {
    put(heads, "th", word, side ? { class: side } : {});
  }
  const body = put(table, "tbody");
  for (const alarm of subject.alarms) {
    const row = put(body, "tr", undefined, { tabindex: "0" });
    put(row, "td", alarm.name === alarm.rule ? alarm.rule : `${alarm.name} ${alarm.rule}`);
    put(row, "td", severities(alarm.priority), { style: `color:${colour(`${alarm.priority[0]}-ink`)}` });
    put(row, "td", time(alarm.from));
    put(row, "td", alarm.to === null ? "未解除 stands" : time(alarm.to));
    put(row, "td", span((alarm.to ?? page.to) - alarm.from), { class: "n" });
    put(row, "td", number(alarm.first), { class: "n" });
    put(row, "td", number(alarm.peak), { class: "n" });
    const zoom = () => look(alarm.from, alarm.to ?? page.to);
    row.addEventListener("click", zoom);
    row.addEventListener("keydown", event => event.key === "Enter" && zoom());
  }
  const rest = subject.alarms_count - subject.alarms.length;
  $("listed").textContent = rest > 0 ? `前 ${subject.alarms.length} 次，共 ${subject.alarms_count} 次 the first of ${subject.alarms_count}` : `${subject.alarms_count}`;
}

function look(from, to) {
  const margin = Math.max(2 * (to - from), 30 * 60_000);
  chart?.dispatchAction({ type: "dataZoom", startValue: Math.max(page.from, from - margin), endValue: Math.min(page.to, to + margin) });
}

function show(subject) {
  for (const button of document.querySelectorAll("[data-subject]")) {
    button.setAttribute("aria-pressed", String(button.dataset.subject === subject.id));
  }
  $("name").textContent = `${subject.name || subject.id} `;
  put($("name"), "small", `${subject.id} ${subject.kind}`);
  legend(subject);
  chart?.dispose();
  chart = null;
  const box = $("chart");
  box.replaceChildren();
  box.style.height = `${topOf(subject.panels.length) + (subject.panels.length ? 6 : 24)}px`;
  chart = echarts.init(box);
  chart.setOption(option(subject));
  alarms(subject);
  document.body.dataset.drawn = subject.id;
}

head();
list();
if (page.subjects.length) show(page.subjects[0]);
window.addEventListener("resize", () => chart?.resize());
