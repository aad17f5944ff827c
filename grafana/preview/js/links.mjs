// Links between dashboards, as far as a preview has them: to the page, without its values.

/** Returns the page of a dashboard's address `/d/<uid>?…`, or null where there is none. */
export function pageOf(url, { pages }) {
  const uid = /^\/d\/([^?/]+)/.exec(url)?.[1];
  return uid && pages[uid] ? `${pages[uid]}.html` : null;
}
