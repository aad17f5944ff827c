// Legends below or beside a chart: names, colours and computed values of the series.

import { fieldReducers, getFieldSeriesColor, reduceField } from '@grafana/data';

import { element } from './dom.mjs';
import { textOf, theme } from './fields.mjs';

export const seriesColor = (field) => getFieldSeriesColor(field, theme).color;

const named = (field) => [
  element('span', { class: 'dash', style: { background: seriesColor(field) } }), field.title,
];

function asTable(fields, calcs) {
  const rows = fields.map((field) => {
    const values = reduceField({ field, reducers: calcs });
    return element('tr', {}, element('td', {}, ...named(field)),
      ...calcs.map((calc) => element('td', {}, textOf(field, values[calc]))));
  });
  const head = calcs.map((calc) => element('th', {}, fieldReducers.get(calc).name));
  return element('table', {},
    element('thead', {}, element('tr', {}, element('th', {}, 'Name'), ...head)),
    element('tbody', {}, ...rows));
}

/** Adds a legend of the fields to the panel's body; returns the element for the chart. */
export function withLegend(body, { options: { legend } }, fields) {
  const place = element('div', { class: 'chart' });
  body.append(place);
  if (!legend.showLegend) return place;
  body.classList.add(`legend-${legend.placement}`);
  const content = legend.displayMode === 'table'
    ? asTable(fields, legend.calcs)
    : element('ul', {}, ...fields.map((field) => element('li', {}, ...named(field))));
  body.append(element('div', { class: 'legend' }, content));
  return place;
}
