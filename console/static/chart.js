// A day of one series with the lines of its rules, and beside it the other sources of the same station. Times are the site's: they are shifted by its offset and drawn as UTC,
// because a browser only knows its own zone.
import { colour, font } from "./colours.js";

const box = document.getElementById("chart");
const offset = Number(box.dataset.offset) * 60_000;
const REFRESH = 30_000;
// Fewer points than this are drawn as points too: a line through one of them is nothing at all.
const SPARSE = 30;
let chart = null;
let metric = box.dataset.metric;
let shown = "";

// SVG rather than canvas: sharp on every screen, and the text can be found and read out.
function draw(data) {
  chart ??= echarts.init(box, null, { renderer: "svg" });
  const at = milliseconds => milliseconds + offset;
  const drawn = points => points.filter(([, , quality]) => quality < 2).map(([ms, value]) => [at(ms), value]);
  const line = drawn(data.points);
  // The primary is solid and in the accent, whichever of the two the page is about; a second source is dashed.
  const stroke = source => source.dashed
    ? { color: colour("text"), width: 1.6, type: [7, 4] }
    : { color: colour("accent"), width: 1.8, type: "solid" };
  const plain = (source, values) => ({
    type: "line", name: source.label, data: values, showSymbol: values.length < SPARSE, symbol: "circle", symbolSize: 6,
    step: data.boolean ? "end" : false, connectNulls: false, lineStyle: stroke(source), itemStyle: { color: stroke(source).color },
  });
  const doubtful = data.points.filter(([, , quality]) => quality > 0);
  const shade = data.limits.map(limit => ({
    yAxis: limit.value,
    name: limit.name,
    lineStyle: { color: colour(limit.priority), type: "dashed", width: 1.5 },
    label: { color: colour(`${limit.priority}-ink`) },
  }));
  chart.setOption({
    useUTC: true,
    animation: false,
    backgroundColor: "transparent",
    textStyle: { fontFamily: font(), color: colour("text") },
    grid: { left: 56, right: 18, top: data.others.length ? 40 : 26, bottom: 30 },
    legend: {
      show: data.others.length > 0, top: 0, right: 18, itemWidth: 36,
      textStyle: { color: colour("text"), fontFamily: font() },
    },
    tooltip: {
      trigger: "axis",
      renderMode: "richText",
      confine: true,
      backgroundColor: colour("panel"),
      borderColor: colour("line-2"),
      textStyle: { color: colour("text"), fontFamily: font() },
      formatter: shown => shown.filter(each => each.seriesType === "line").map(({ seriesName, value: [ms, value] }) =>
        `${new Date(ms).toISOString().slice(5, 19).replace("T", " ")}\n${data.others.length ? seriesName : data.name} ${number(value)} ${data.unit}`
      ).join("\n"),
    },
    xAxis: {
      type: "time", min: at(data.start), max: at(data.end),
      axisLine: { lineStyle: { color: colour("line-2") } },
      axisLabel: { color: colour("mute"), hideOverlap: true, formatter: "{HH}:{mm}" },
      splitLine: { show: true, lineStyle: { color: colour("line") } },
    },
    yAxis: {
      type: "value", scale: true, name: data.unit, nameTextStyle: { color: colour("mute"), align: "right" },
      min: extent => round(data, extent, Math.floor),
      max: extent => round(data, extent, Math.ceil),
      axisLabel: { color: colour("mute"), formatter: number },
      splitLine: { lineStyle: { color: colour("line") } },
    },
    series: [
      {
        ...plain(data, line),
        areaStyle: { color: colour("accent"), opacity: data.others.length ? 0 : 0.07 },
        markLine: {
          silent: true, symbol: "none", data: shade,
          label: { position: "insideStartTop", fontFamily: font(), formatter: ({ name, value }) => `${name} ${number(value)}` },
        },
      },
      ...data.others.map(other => plain(other, drawn(other.points))),
      {
        type: "scatter", symbolSize: 6, silent: true,
        data: doubtful.map(([ms, value, quality]) => ({
          value: [at(ms), value],
          itemStyle: { color: quality === 1 ? colour("high") : "transparent", borderColor: quality === 1 ? colour("high") : colour("mute") },
        })),
      },
    ],
    graphic: data.points.length || data.others.some(other => other.points.length) ? [] : [{
      type: "text", left: "center", top: "middle",
      style: { text: box.dataset.empty, fill: colour("mute"), font: `14px ${font()}` },
    }],
  }, { notMerge: true });
  box.dataset.drawn = metric;
  box.dataset.points = data.points.length;
  box.dataset.others = data.others.map(other => other.points.length).join(" ");
  box.dataset.limits = data.limits.map(limit => limit.value).join(" ");
}

// The scale holds the values and the limits, and ends at round numbers.
function round(data, extent, towards) {
  const limits = data.limits.map(limit => limit.value);
  const low = Math.min(extent.min, ...limits);
  const high = Math.max(extent.max, ...limits);
  const step = 10 ** Math.floor(Math.log10(high - low || Math.abs(high) || 1)) / 2;
  const end = towards === Math.floor ? low - step / 4 : high + step / 4;
  return Number((towards(end / step) * step).toPrecision(10));
}

function number(value) {
  return Number(value.toFixed(3)).toLocaleString("en-US");
}

async function load() {
  const wanted = metric;
  const answer = await fetch(`${box.dataset.source}?metric=${encodeURIComponent(wanted)}`, { credentials: "same-origin" });
  if (!answer.ok || wanted !== metric) return;
  const text = await answer.text();
  if (text === shown) return;
  shown = text;
  draw(JSON.parse(text));
}

const quietly = () => load().catch(() => {});

document.addEventListener("click", event => {
  const button = event.target.closest("button[data-metric]");
  if (!button) return;
  metric = button.dataset.metric;
  for (const each of document.querySelectorAll("button[data-metric]")) {
    each.setAttribute("aria-pressed", String(each === button));
  }
  quietly();
});
window.addEventListener("resize", () => chart?.resize());
setInterval(quietly, REFRESH);
quietly();
