// Alarms of each day with the line of what is acceptable.
import { colour, font } from "./colours.js";

const box = document.getElementById("review-chart");
const days = JSON.parse(box.dataset.days);
const target = Number(box.dataset.target);
const most = Math.max(...days.map(([, count]) => count));
const chart = echarts.init(box, null, { renderer: "svg" });

chart.setOption({
  animation: false,
  backgroundColor: "transparent",
  textStyle: { fontFamily: font(), color: colour("text") },
  grid: { left: 48, right: 18, top: 26, bottom: 30 },
  tooltip: {
    trigger: "axis", renderMode: "richText", confine: true,
    backgroundColor: colour("panel"), borderColor: colour("line-2"),
    textStyle: { color: colour("text"), fontFamily: font() },
  },
  xAxis: {
    type: "category", data: days.map(([day]) => day),
    axisLine: { lineStyle: { color: colour("line-2") } },
    axisLabel: { color: colour("mute"), hideOverlap: true, formatter: day => day.slice(5) },
  },
  yAxis: {
    type: "value", minInterval: 1,
    axisLabel: { color: colour("mute") },
    splitLine: { lineStyle: { color: colour("line") } },
  },
  series: [{
    type: "bar", data: days.map(([, count]) => count), barMaxWidth: 36,
    itemStyle: { color: colour("accent") },
    // Far above what there is, the line would only flatten the bars.
    markLine: most * 3 < target ? undefined : {
      silent: true, symbol: "none",
      lineStyle: { color: colour("mute"), type: "dashed" },
      label: { color: colour("mute"), position: "insideStartTop", formatter: () => `${box.dataset.targetName} ${target}` },
      data: [{ yAxis: target }],
    },
  }],
});
box.dataset.drawn = days.length;
window.addEventListener("resize", () => chart.resize());
