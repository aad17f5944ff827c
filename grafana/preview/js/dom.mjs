// Elements of the page. Text is inserted as text, so data from the database is never markup.

/** Returns an element; `style` is an object, children are nodes or strings. */
export function element(tag, { style = {}, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  Object.assign(node.style, style);
  node.append(...children);
  return node;
}
