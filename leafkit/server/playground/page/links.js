// Lines between the columns, from a document's place in one ranking to its place in the next.

const box = document.getElementById("columns");
const svg = document.getElementById("links");

/** Draw them anew; on a narrow page the columns stand below each other, and there are none. */
export function drawLinks() {
  const paths = [];
  if (getComputedStyle(svg).display !== "none") {
    const lists = [...box.querySelectorAll(".hits")];
    for (let at = 1; at < lists.length; at++) {
      const right = new Map([...lists[at].children].map((item) => [item.dataset.id, item]));
      for (const item of lists[at - 1].children) {
        const other = right.get(item.dataset.id);
        if (other) paths.push(pathBetween(item, other));
      }
    }
  }
  svg.replaceChildren(...paths);
}

function pathBetween(left, right) {
  const origin = box.getBoundingClientRect();
  const [from, to] = [left.getBoundingClientRect(), right.getBoundingClientRect()];
  const [x1, x2] = [from.right - origin.left, to.left - origin.left];
  const [y1, y2] = [from, to].map((rect) => rect.top + rect.height / 2 - origin.top);
  const middle = (x1 + x2) / 2;
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`);
  path.dataset.id = left.dataset.id;
  return path;
}

/** Show a document in all columns, or no longer. */
export function linkOf(id, isOn) {
  for (const element of box.querySelectorAll("li,path"))
    if (element.dataset.id === id) element.classList.toggle("linked", isOn);
}
