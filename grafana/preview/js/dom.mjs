// Elements of the page. Text goes in as text: nothing from the database is markup.

/** Returns an element; `style` is an object, children are nodes or strings. */
export function element(tag, { style = {}, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  Object.assign(node.style, style);
  node.append(...children);
  return node;
}
