// Charts, drawn with ECharts instead of Grafana's panels.

import { dateTimeFormat } from '@grafana/data';
import * as echarts from 'echarts';

import { element } from './dom.mjs';
import { colorOf, numbers, textOf, theme } from './fields.mjs';
import { seriesColor, withLegend } from './legend.mjs';

const LINE = 'rgba(204, 204, 220, 0.10)';
const LABEL = { color: theme.colors.text.secondary, fontSize: 11, hideOverlap: true };
const GRID = {
  left: 6, right: 10, top: 10, bottom: 4, outerBoundsMode: 'same', outerBoundsContain: 'axisLabel',
};
// Grafana's colours for heat maps on a dark page, from few to many.
const ORANGES = ['#7f2704', '#d94801', '#f16913', '#fdae6b', '#fee6cc'];
const DAY = 86_400_000;

function draw(place, option) {
  const chart = echarts.init(place, null, { renderer: 'canvas' });
  chart.setOption({ animation: false, grid: GRID, ...option });
  addEventListener('resize', () => chart.resize());
}

function timeLabel(ms, { from, to, timezone }) {
  const span = to - from;
  const format = span > 2 * DAY ? 'MM-DD' : 'HH:mm';
  return dateTimeFormat(ms, { timeZone: timezone, format });
}

const timeAxis = (page) => ({
  type: 'time', min: page.from, max: page.to, splitLine: { show: true, lineStyle: { color: LINE } },
  axisLine: { show: false }, axisTick: { show: false },
  axisLabel: { ...LABEL, formatter: (ms) => timeLabel(ms, page) },
});

const valueAxis = (field, more = {}) => ({
  type: 'value', min: field?.config.min, max: field?.config.max, splitNumber: 4,
  splitLine: { lineStyle: { color: LINE } },
  axisLabel: { ...LABEL, formatter: (value) => (field ? textOf(field, value) : value) },
  ...more,
});

const categories = (names, more = {}) => ({
  type: 'category', data: names, axisTick: { show: false }, axisLine: { show: false },
  axisLabel: LABEL, ...more,
});

/** Returns ECharts' marks for the dashboard's annotations: spans as areas, instants as lines. */
function marks({ annotations, from, to }) {
  const inside = annotations.flatMap(({ color, events }) => events
    .filter(({ time, timeEnd }) => (timeEnd ?? time) >= from && time <= to)
    .map((event) => ({ ...event, color: theme.visualization.getColorByName(color) })));
  return {
    markArea: {
      silent: true,
      data: inside.filter(({ timeEnd }) => timeEnd).map(({ time, timeEnd, color }) => [
        { xAxis: Math.max(time, from), itemStyle: { color, opacity: 0.18 } },
        { xAxis: Math.min(timeEnd, to) },
      ]),
    },
    markLine: {
      silent: true, symbol: 'none', label: { show: false },
      data: inside.filter(({ timeEnd }) => !timeEnd).map(({ time, color }) => (
        { xAxis: time, lineStyle: { color, type: 'dashed' } }
      )),
    },
  };
}

function lineOf(field, times) {
  const { custom = {} } = field.config;
  const color = seriesColor(field);
  const data = times.map((time, n) => [time, field.values[n] ?? null]);
  const single = data.filter(([, value]) => value !== null).length === 1;
  const common = {
    name: field.title, data, color,
    stack: custom.stacking?.mode === 'normal' ? 'all' : undefined,
    yAxisIndex: custom.axisPlacement === 'right' ? 1 : 0,
  };
  if (custom.drawStyle === 'bars') {
    return { ...common, type: 'bar', barMaxWidth: 24, itemStyle: { opacity: custom.fillOpacity / 100 } };
  }
  if (custom.drawStyle === 'points') {
    return { ...common, type: 'scatter', symbolSize: custom.pointSize };
  }
  return {
    ...common,
    type: 'line',
    showSymbol: single, symbolSize: 5,
    step: custom.lineInterpolation === 'stepBefore' ? 'start' : false,
    lineStyle: { width: custom.lineWidth },
    areaStyle: custom.fillOpacity ? { opacity: custom.fillOpacity / 100 } : undefined,
  };
}

/** Draws series over time, with the dashboard's annotations. */
export function timeseries(body, panel, frames, page) {
  const fields = numbers(frames);
  if (!fields.length) return false;
  const place = withLegend(body, panel, fields);
  const series = frames.flatMap((frame) => numbers([frame]).map((field) => (
    lineOf(field, frame.fields[0].values)
  )));
  Object.assign(series[0], marks(page));
  const left = fields.find(({ config }) => config.custom?.axisPlacement !== 'right');
  const right = fields.find(({ config }) => config.custom?.axisPlacement === 'right');
  const yAxis = [valueAxis(left), ...(right ? [valueAxis(right, { position: 'right' })] : [])];
  draw(place, { xAxis: timeAxis(page), yAxis, series });
  return true;
}

/** Draws a bar for each row of a table, named by its text column `xField`. */
export function barchart(body, panel, frames) {
  const [frame] = frames;
  const x = frame?.fields.find(({ title }) => title === panel.options.xField);
  const fields = numbers(frames);
  if (!x || !fields.length) return false;
  const place = withLegend(body, panel, fields);
  const lying = panel.options.orientation === 'horizontal';
  const names = x.values.map((value) => textOf(x, value));
  const axes = [categories(names, { inverse: lying }), valueAxis(fields[0])];
  draw(place, {
    xAxis: axes[lying ? 1 : 0],
    yAxis: axes[lying ? 0 : 1],
    series: fields.map((field) => ({
      type: 'bar', data: field.values, color: seriesColor(field), barMaxWidth: 60,
      label: {
        show: fields.length === 1, position: lying ? 'right' : 'top', color: LABEL.color,
        formatter: ({ value }) => textOf(field, value),
      },
    })),
    grid: { ...GRID, top: 22, right: lying ? 48 : 10 },
  });
  return true;
}

/** Draws a heat map: a column for each time, and a row for each class, named by its number. */
export function heatmap(body, panel, frames, page) {
  const fields = numbers(frames);
  if (!fields.length) return false;
  const [{ values: times }] = frames[0].fields;
  fields.sort((a, b) => Number(a.title) - Number(b.title));
  const cells = fields.flatMap((field, y) => field.values.flatMap((value, x) => (
    value ? [[x, y, value]] : []
  )));
  const place = element('div', { class: 'chart' });
  body.append(place);
  draw(place, {
    xAxis: categories(times, { axisLabel: { ...LABEL, formatter: (ms) => timeLabel(Number(ms), page) } }),
    yAxis: categories(fields.map(({ title }) => `${title}${unitOf(panel)}`)),
    visualMap: {
      min: 0, max: Math.max(...cells.map(([, , value]) => value)), show: false,
      inRange: { color: ORANGES },
    },
    series: [{ type: 'heatmap', data: cells, itemStyle: { borderColor: '#181b1f', borderWidth: 1 } }],
  });
  return true;
}

const unitOf = ({ options }) => (options.yAxis.unit === 'ms' ? ' ms' : '');

/** Draws a row of coloured bars for each series; a bar lasts until the next value. */
export function stateTimeline(body, panel, frames, page) {
  const fields = numbers(frames);
  if (!fields.length) return false;
  const [{ values: times }] = frames[0].fields;
  const stretches = fields.flatMap((field, row) => times.flatMap((time, n) => {
    const value = field.values[n] ?? null;
    return value === null ? [] : [[row, time, times[n + 1] ?? page.to, colorOf(field, value)]];
  }));
  const place = element('div', { class: 'chart' });
  body.append(place);
  draw(place, {
    xAxis: timeAxis(page),
    yAxis: categories(fields.map(({ title }) => title), { inverse: true }),
    series: [{
      type: 'custom',
      clip: true,
      data: stretches,
      encode: { x: [1, 2], y: 0 },
      renderItem: (_, api) => {
        const [x, y] = api.coord([api.value(1), api.value(0)]);
        const [until] = api.coord([api.value(2), api.value(0)]);
        const height = api.size([0, 1])[1] * panel.options.rowHeight;
        return {
          type: 'rect',
          shape: { x, y: y - height / 2, width: Math.max(1, until - x), height },
          style: { fill: api.value(3), opacity: 0.8 },
        };
      },
    }],
  });
  return true;
}
