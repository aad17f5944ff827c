// Tables and single figures.

import { sortDataFrame } from '@grafana/data';

import { element } from './dom.mjs';
import { colorOf, textOf, theme } from './fields.mjs';

/** Returns the page for a dashboard's address `/d/<uid>?…`, or null if there is none. */
function pageOf(url, { pages }) {
  const uid = /^\/d\/([^?/]+)/.exec(url)?.[1];
  return uid && pages[uid] ? `${pages[uid]}.html` : null;
}

function gaugeCell(field, value) {
  const { min = 0, max = 1 } = field.config;
  const share = Math.max(0, Math.min(1, (value - min) / (max - min))) * 100;
  const bar = element('span', { style: { width: `${share}%`, background: colorOf(field, value) } });
  return [element('span', { class: 'gauge' }, bar), textOf(field, value)];
}

function cell(field, value, page) {
  const { custom = {}, links } = field.config;
  const type = custom.cellOptions?.type;
  const nothing = value === null || value === undefined;
  const href = links?.length && !nothing ? pageOf(links[0].url, page) : null;
  const text = textOf(field, value);
  const content = href ? [element('a', { href }, text)]
    : type === 'gauge' && !nothing ? gaugeCell(field, value) : [text];
  const style = { textAlign: alignOf(field) };
  if (type === 'color-text' && !nothing) style.color = colorOf(field, value);
  if (type === 'color-background' && !nothing) {
    style.background = colorOf(field, value);
    style.color = theme.colors.getContrastText(style.background);
  }
  return element('td', { style, title: text }, ...content);
}

function alignOf({ type, config: { custom = {} } }) {
  if (custom.align && custom.align !== 'auto') return custom.align;
  return type === 'number' ? 'right' : 'left';
}

/** Draws the first frame's rows; rows that do not fit are hidden, as there is no scroll bar. */
export function table(body, { options }, [frame], page) {
  if (!frame?.fields.length) return false;
  const [{ displayName, desc } = {}] = options.sortBy ?? [];
  const by = frame.fields.findIndex(({ title }) => title === displayName);
  const sorted = by < 0 ? frame : sortDataFrame(frame, by, desc);
  const fields = sorted.fields.filter(({ config }) => !config.custom?.hideFrom?.viz);
  const head = fields.map((field) => {
    const { width, minWidth } = field.config.custom ?? {};
    const style = { textAlign: alignOf(field) };
    if (width) style.width = `${width}px`;
    if (minWidth) style.minWidth = `${minWidth}px`;
    return element('th', { style }, field.title);
  });
  const rows = [];
  for (let row = 0; row < Math.min(sorted.length, 60); row++) {
    rows.push(element('tr', {}, ...fields.map((field) => cell(field, field.values[row], page))));
  }
  body.append(element('div', { class: 'scrolled' }, element('table', {},
    element('thead', {}, element('tr', {}, ...head)), element('tbody', {}, ...rows))));
  return true;
}

/** Draws the last value of the column that the panel's options select. */
export function stat(body, { options, gridPos }, [frame]) {
  const wanted = options.reduceOptions.fields;
  const field = frame?.fields.find(({ type, title }) => (
    wanted ? new RegExp(wanted.replace(/^\/|\/$/g, '')).test(title) : type === 'number'
  ));
  if (!field) return false;
  const value = field.values.at(-1) ?? null;
  const text = textOf(field, value);
  const size = Math.min(gridPos.h * 11, (gridPos.w * 95) / Math.max(text.length, 4));
  const color = options.colorMode === 'none' ? theme.colors.text.primary : colorOf(field, value);
  body.append(element('div', { class: 'stat', style: { color, fontSize: `${size}px` } }, text));
  return true;
}

/** Draws a text panel's Markdown, of which only plain paragraphs are used. */
export function text(body, { options }) {
  body.append(element('p', {}, options.content));
  return true;
}
