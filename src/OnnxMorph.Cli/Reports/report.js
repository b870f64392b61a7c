// Nothing here is needed to read the report. There is no ampersand and no less-than sign in it, so that the page is XML as well.
'use strict';

// Under the pointer, a block lights its ribbons.
for (const svg of document.querySelectorAll('svg.alignment')) {
  const ribbons = [...svg.querySelectorAll('.ribbon')];
  for (const item of svg.querySelectorAll('.item')) {
    const side = item.dataset.side;
    item.addEventListener('pointerenter', () => {
      const own = ribbons.filter(ribbon => ribbon.dataset[side] === item.dataset.index);
      own.forEach(ribbon => ribbon.classList.add('lit'));
      svg.classList.toggle('some', own.length > 0);
    });
    item.addEventListener('pointerleave', () => {
      ribbons.forEach(ribbon => ribbon.classList.remove('lit'));
      svg.classList.remove('some');
    });
  }
}

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
