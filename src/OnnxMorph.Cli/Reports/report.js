// Nothing here is needed to read the report. There is no ampersand and no less-than sign in it, so that the page is XML as well.
'use strict';

// What a picture says of a part shows below it when the part is touched or reached with the keyboard: titles alone need a pointer.
const tell = (svg, part) => {
  const box = svg.parentElement;
  let line = box.nextElementSibling;
  if (!line?.classList.contains('told')) {
    line = document.createElement('p');
    line.className = 'told';
    box.after(line);
  }
  line.textContent = part ? part.querySelector('title').textContent : '';
  line.hidden = !part;
};

for (const svg of document.querySelectorAll('svg')) {
  svg.addEventListener('click', event => tell(svg, event.target.closest('.item, .ribbon, .cell')));
}

// A block lights its ribbons. The picture is one stop of the tab key; in it arrows go from block to block, and across to the partner.
for (const svg of document.querySelectorAll('svg.alignment')) {
  const ribbons = [...svg.querySelectorAll('.ribbon')];
  const items = [...svg.querySelectorAll('.item')];
  const own = item => ribbons.filter(ribbon => ribbon.dataset[item.dataset.side] === item.dataset.index);
  const light = item => {
    ribbons.forEach(ribbon => ribbon.classList.remove('lit'));
    const lit = item ? own(item) : [];
    lit.forEach(ribbon => ribbon.classList.add('lit'));
    svg.classList.toggle('some', lit.length !== 0);
  };
  const partner = item => {
    const side = item.dataset.side === 'source' ? 'target' : 'source';
    const index = own(item)[0]?.dataset[side];
    return items.find(other => other.dataset.side === side ? other.dataset.index === index : false);
  };
  const reach = {
    ArrowDown: (column, at) => column[at + 1],
    ArrowUp: (column, at) => column[at - 1],
    Home: column => column[0],
    End: column => column.at(-1),
    ArrowLeft: (column, at) => column[at].dataset.side === 'target' ? partner(column[at]) : null,
    ArrowRight: (column, at) => column[at].dataset.side === 'source' ? partner(column[at]) : null,
  };
  for (const item of items) {
    item.setAttribute('role', 'img');
    item.setAttribute('tabindex', item === items[0] ? 0 : -1);
    item.addEventListener('pointerenter', () => light(item));
    item.addEventListener('pointerleave', () => light(null));
    item.addEventListener('focus', () => {
      items.forEach(other => other.setAttribute('tabindex', other === item ? 0 : -1));
      light(item);
      tell(svg, item);
    });
    item.addEventListener('blur', () => light(null));
    item.addEventListener('keydown', event => {
      if (!Object.hasOwn(reach, event.key)) return;
      event.preventDefault();
      const column = items.filter(other => other.dataset.side === item.dataset.side);
      reach[event.key](column, column.indexOf(item))?.focus();
    });
  }
}

// What is wider than the window can be scrolled with the keyboard too.
const boxes = [...document.querySelectorAll('.scroll')];
const fit = () => boxes.forEach(box => {
  if (box.scrollWidth > box.clientWidth) {
    box.tabIndex = 0;
    box.setAttribute('role', 'region');
    box.setAttribute('aria-label', box.closest('section').querySelector('h2').textContent);
  } else {
    ['tabindex', 'role', 'aria-label'].forEach(name => box.removeAttribute(name));
  }
});
fit();
addEventListener('resize', fit);

// Long tables can be searched, and narrowed to origins. Groups that nothing is left of go too.
for (const table of document.querySelectorAll('table.long')) {
  const rows = [...table.tBodies].flatMap(body => [...body.rows]);
  const leaves = rows.filter(row => !row.dataset.level);
  const bar = document.createElement('div');
  bar.className = 'filter';
  const search = document.createElement('input');
  search.type = 'search';
  search.placeholder = 'Filter by name';
  search.setAttribute('aria-label', 'Filter by name');
  bar.append(search);
  const origins = new Set(leaves.map(row => row.dataset.origin).filter(Boolean));
  const boxes = [...origins].map(origin => {
    const label = document.createElement('label');
    const box = document.createElement('input');
    box.type = 'checkbox';
    box.checked = true;
    box.value = origin;
    label.append(box, origin);
    bar.append(label);
    return box;
  });
  const count = document.createElement('span');
  count.className = 'muted';
  count.setAttribute('aria-live', 'polite');
  bar.append(count);
  table.parentElement.before(bar);

  const apply = () => {
    const words = search.value.toLowerCase().split(' ').filter(Boolean);
    const off = new Set(boxes.filter(box => !box.checked).map(box => box.value));
    let shown = 0;
    const open = [];
    rows.forEach(row => {
      const level = Number(row.dataset.level || 0);
      if (level) {
        while (open.length >= level) open.pop();
        open.push(row);
        row.hidden = true;
        return;
      }
      const text = row.textContent.toLowerCase();
      const fits = !off.has(row.dataset.origin) ? words.every(word => text.includes(word)) : false;
      row.hidden = !fits;
      if (fits) {
        shown += 1;
        open.forEach(group => { group.hidden = false; });
      }
    });
    count.textContent = shown === leaves.length ? '' : shown + ' of ' + leaves.length;
  };
  bar.addEventListener('input', apply);
}
