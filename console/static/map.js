// Grids coloured by their worst standing alarm, devices on them. On the map as everywhere the colour has a word beside it:
// a grid with alarms carries their number.
import { colour, font } from "./colours.js";

const box = document.getElementById("map");
let chart = null;
let known = "";
let shape = "";

function draw(data) {
  chart ??= echarts.init(box, null, { renderer: "canvas" });
  const geo = JSON.stringify(data.geojson);
  if (geo !== shape) {
    shape = geo;
    echarts.registerMap("grids", data.geojson);
  }
  const byName = new Map(data.grids.map(grid => [grid.name, grid]));
  const calm = colour("panel-2");
  chart.setOption({
    animation: false,
    textStyle: { fontFamily: font() },
    tooltip: {
      renderMode: "richText", confine: true,
      backgroundColor: colour("panel"), borderColor: colour("line-2"),
      textStyle: { color: colour("text"), fontFamily: font() },
      formatter: ({ data: item, name }) => {
        if (item?.device) return `${item.device.name}\n${item.device.second ? `${item.device.second}\n` : ""}${word(data, item.device.worst)}`;
        const grid = byName.get(name);
        return grid ? `${grid.label}\n${word(data, grid.worst)} · ${data.words.alarms} ${grid.alarms}` : "";
      },
    },
    geo: {
      map: "grids", roam: true, scaleLimit: { min: 0.8, max: 8 },
      // In the middle and as large as fits; with four edges given the map would be stretched to them.
      layoutCenter: ["50%", "50%"],
      layoutSize: fitting(data.geojson),
      aspectScale: Math.cos(middle(data.geojson) * Math.PI / 180), // a degree of longitude is shorter than one of latitude
      label: { show: false },
      itemStyle: { areaColor: calm, borderColor: colour("line-2"), borderWidth: 1 },
      emphasis: { label: { show: false }, itemStyle: { areaColor: colour("accent-soft") } },
      select: { disabled: true },
      regions: data.grids.filter(grid => grid.worst).map(grid => ({
        name: grid.name,
        itemStyle: { areaColor: colour(`${grid.worst}-tint`), borderColor: colour(grid.worst), borderWidth: 2 },
      })),
    },
    series: [{
      // Devices: dots, larger and coloured where an alarm of theirs stands.
      type: "scatter", coordinateSystem: "geo", z: 4,
      // A second source is a ring, below: where it stands beside its primary that is the one to press.
      data: data.devices.toSorted((a, b) => Boolean(b.second) - Boolean(a.second)).map(device => ({
        name: device.name, value: device.at, device,
        symbolSize: device.second ? 11 : device.worst ? 9 : 5,
        itemStyle: device.second
          ? { color: "transparent", borderColor: colour(device.worst ?? "mute"), borderWidth: 1.5 }
          : { color: colour(device.worst ?? "mute"), borderColor: colour("panel"), borderWidth: 1 },
      })),
    }, {
      type: "scatter", coordinateSystem: "geo", silent: true, symbolSize: 0, z: 6, labelLayout: { hideOverlap: true },
      label: {
        show: true, position: "inside", formatter: "{b}", color: colour("text"), fontFamily: font(), fontSize: 13,
        textBorderColor: colour("panel"), textBorderWidth: 3,
      },
      data: data.labels.map(label => ({ name: label.name, value: clear(label, byName) })),
    }, {
      // One badge for each grid with alarms: the shape is the priority, the number how many stand.
      type: "scatter", coordinateSystem: "geo", silent: true, z: 8,
      data: data.grids.filter(grid => grid.worst).map(grid => ({
        name: grid.name, value: grid.at, symbol: symbols[grid.worst] ?? "roundRect", symbolSize: sizes[grid.worst] ?? 20,
        itemStyle: { color: colour(grid.worst), borderColor: colour("panel"), borderWidth: 1.5, opacity: 1 },
        label: {
          show: true, position: "inside", formatter: String(grid.alarms), color: colour(`${grid.worst}-text`),
          fontFamily: font(), fontSize: 12, fontWeight: "bold", offset: grid.worst === "high" ? [0, 4] : [0, 0],
        },
      })),
    }],
    graphic: data.grids.length ? [] : [{
      type: "text", left: "center", top: "middle",
      style: { text: data.words.empty, fill: colour("mute"), font: `14px ${font()}` },
    }],
  }, { replaceMerge: ["series"] });
  box.dataset.drawn = data.grids.length;
  box.dataset.devices = data.devices.length;
}

const symbols = { critical: "rect", high: "triangle", medium: "diamond", low: "circle" };
const sizes = { critical: 20, high: 26, medium: 26, low: 20 };

// The box [west, south, east, north] of all grids.
function bounds(geojson) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  const take = at => {
    if (typeof at[0] !== "number") { at.forEach(take); return; }
    box[0] = Math.min(box[0], at[0]); box[1] = Math.min(box[1], at[1]);
    box[2] = Math.max(box[2], at[0]); box[3] = Math.max(box[3], at[1]);
  };
  geojson.features.forEach(feature => take(feature.geometry.coordinates));
  return box;
}

function middle(geojson) {
  const [, south, , north] = bounds(geojson);
  return geojson.features.length ? (south + north) / 2 : 0;
}

// ECharts takes one number: the longer side of the map, in pixels.
function fitting(geojson) {
  if (!geojson.features.length) return "100%";
  const [west, south, east, north] = bounds(geojson);
  const width = (east - west) * Math.cos((south + north) / 2 * Math.PI / 180);
  const height = north - south;
  const fits = Math.min((box.clientWidth - 32) / width, (box.clientHeight - 28) / height);
  return Math.max(width, height) * fits;
}

// Where the name of a village hides no badge: a grid of it without alarms, or else below its middle.
function clear(label, byName) {
  return label.in.find(each => !byName.get(each.grid)?.worst)?.at ?? label.at;
}

function word(data, priority) {
  return priority ? data.words[priority] : data.words.none;
}

async function load() {
  const answer = await fetch(box.dataset.source, { credentials: "same-origin" });
  if (!answer.ok) return;
  const text = await answer.text();
  if (text === known) return;
  known = text;
  draw(JSON.parse(text));
}

let due = 0;
function soon() {
  clearTimeout(due);
  due = setTimeout(() => load().catch(() => {}), 400);
}

document.body.addEventListener("gw:alarm", soon);
window.addEventListener("resize", () => {
  if (!chart) return;
  chart.resize();
  draw(JSON.parse(known));
});
setInterval(soon, 60_000);
load().then(() => chart?.on("click", ({ data }) => {
  if (data?.device && box.dataset.links !== "no") location.assign(`/devices/${encodeURIComponent(data.device.id)}`);
})).catch(() => {});
