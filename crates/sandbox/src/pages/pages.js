// While something on the page still moves, draw it anew; what the reader has opened stays open, and
// a form that has been begun is left alone.
const begun = (field) =>
  field.type === 'checkbox' || field.type === 'radio' ? field.checked !== field.defaultChecked
  : field.options ? [...field.options].some((o) => o.selected !== o.defaultSelected && o.value !== '')
  : field.value !== field.defaultValue;
const step = async () => {
  const main = document.querySelector('main');
  if (!main.hasAttribute('data-live')) return;
  const filled = [...main.querySelectorAll('input, textarea, select')].some(begun);
  if (!document.hidden && !filled && String(getSelection()) === '') {
    try {
      const reply = await fetch(location.href);
      const next = new DOMParser().parseFromString(await reply.text(), 'text/html').querySelector('main');
      for (const old of main.querySelectorAll('details[id]')) {
        const fresh = next.querySelector('#' + CSS.escape(old.id));
        if (fresh) fresh.open = old.open;
      }
      const writing = document.activeElement?.closest('input, textarea, select');
      if (!main.contains(writing ?? null)) {
        const held = document.activeElement?.closest('details[id]')?.id;
        main.replaceWith(next);
        if (held) document.getElementById(held)?.querySelector('summary')?.focus();
      }
    } catch { /* the server is away; the next look may find it */ }
  }
  setTimeout(step, 1500);
};
setTimeout(step, 1500);
