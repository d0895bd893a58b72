// The series of a trial with its limits; below it, when the alarm stood by the rules that run and by those tried. Times are
// the site's: shifted by its offset and drawn as UTC, because a browser only knows its own zone.
import { colour, font } from "./colours.js";

let chart = null;
let drawnFor = null;

function lane(params, api) {
  const from = api.coord([api.value(1), api.value(0)]);
  const to = api.coord([api.value(2), api.value(0)]);
  const { x, width } = params.coordSys;
  const left = Math.max(from[0], x);
  const right = Math.min(Math.max(to[0], from[0] + 2), x + width);
  return right <= left ? null : {
    type: "rect",
    shape: { x: left, y: from[1] - 7, width: right - left, height: 14 },
    style: { fill: api.value(0) ? colour("accent") : colour("mute") },
  };
}

function draw(box, data) {
  chart?.dispose();
  chart = echarts.init(box, null, { renderer: "svg" });
  const offset = Number(box.dataset.offset) * 60_000;
  const at = milliseconds => milliseconds + offset;
  const span = { min: at(data.start), max: at(data.end) };
  const time = { type: "time", ...span, axisLine: { lineStyle: { color: colour("line-2") } } };
  const shown = { color: colour("mute"), hideOverlap: true };
  const bars = [...data.old.map(([a, b]) => [0, at(a), at(b)]), ...data.new.map(([a, b]) => [1, at(a), at(b)])];
  chart.setOption({
    useUTC: true,
    animation: false,
    backgroundColor: "transparent",
    textStyle: { fontFamily: font(), color: colour("text") },
    grid: [{ left: 76, right: 18, top: 26, bottom: 104 }, { left: 76, right: 18, height: 48, bottom: 30 }],
    tooltip: {
      trigger: "axis", renderMode: "richText", confine: true,
      backgroundColor: colour("panel"), borderColor: colour("line-2"),
      textStyle: { color: colour("text"), fontFamily: font() },
      formatter: ([first]) => first?.seriesType === "line"
        ? `${new Date(first.value[0]).toISOString().slice(5, 16).replace("T", " ")}\n${data.name} ${number(first.value[1])} ${data.unit}`
        : "",
    },
    xAxis: [
      { ...time, gridIndex: 0, axisLabel: { show: false }, splitLine: { show: true, lineStyle: { color: colour("line") } } },
      { ...time, gridIndex: 1, axisLabel: shown },
    ],
    yAxis: [
      {
        type: "value", scale: true, gridIndex: 0, name: data.unit, nameTextStyle: { color: colour("mute"), align: "right" },
        min: ({ min }) => Math.min(min, ...data.limits.map(limit => limit.value)),
        max: ({ max }) => Math.max(max, ...data.limits.map(limit => limit.value)),
        axisLabel: { color: colour("mute"), formatter: number },
        splitLine: { lineStyle: { color: colour("line") } },
      },
      {
        type: "category", gridIndex: 1, data: [box.dataset.old, box.dataset.new],
        axisLabel: { color: colour("text"), interval: 0 }, axisTick: { show: false },
        axisLine: { lineStyle: { color: colour("line-2") } },
      },
    ],
    series: [
      {
        type: "line", data: data.points.map(([ms, value]) => [at(ms), value]), showSymbol: data.points.length < 30,
        symbol: "circle", symbolSize: 5, step: data.boolean ? "end" : false,
        lineStyle: { color: colour("text"), width: 1.4 }, itemStyle: { color: colour("text") },
        markLine: {
          silent: true, symbol: "none",
          data: data.limits.map(({ value, which }) => ({
            yAxis: value, name: which === "new" ? box.dataset.new : box.dataset.old,
            lineStyle: { color: colour(which === "new" ? "accent" : "mute"), type: "dashed", width: 1.3 },
            label: { color: colour(which === "new" ? "accent" : "mute") },
          })),
          label: { position: "insideStartTop", fontFamily: font(), formatter: ({ name, value }) => `${name} ${number(value)}` },
        },
        markArea: {
          silent: true, itemStyle: { color: colour("accent"), opacity: 0.16 },
          data: data.new.map(([a, b]) => [{ xAxis: at(a) }, { xAxis: at(b) }]),
        },
      },
      { type: "custom", xAxisIndex: 1, yAxisIndex: 1, renderItem: lane, data: bars, encode: { x: [1, 2], y: 0 }, silent: true },
    ],
    graphic: data.points.length ? [] : [{
      type: "text", left: "center", top: "35%",
      style: { text: box.dataset.empty, fill: colour("mute"), font: `14px ${font()}` },
    }],
  }, { notMerge: true });
  box.dataset.points = data.points.length;
  box.dataset.spans = `${data.old.length} ${data.new.length}`;
}

function number(value) {
  return Number(value.toFixed(3)).toLocaleString("en-US");
}

async function load() {
  const box = document.getElementById("trial-chart");
  const choice = document.querySelector("#trial-choice select");
  if (!box || !choice) return;
  const wanted = choice.value;
  drawnFor = box;
  const [device, metric] = wanted.split("|");
  const query = new URLSearchParams({ device, metric });
  const answer = await fetch(`${box.dataset.source}?${query}`, { credentials: "same-origin" });
  if (answer.ok && choice.value === wanted) draw(box, await answer.json());
}

const quietly = () => load().catch(() => {});

document.addEventListener("change", event => { if (event.target.closest?.("#trial-choice")) quietly(); });
document.addEventListener("submit", event => { if (event.target.closest?.("#trial-choice")) event.preventDefault(); });
// A finished trial comes in place of the one that ran.
document.addEventListener("htmx:after:swap", () => {
  if (document.getElementById("trial-chart") !== drawnFor) quietly();
});
window.addEventListener("resize", () => chart?.resize());
quietly();
