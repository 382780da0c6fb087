// Uploads, examples and overlays. Everything comes from this server; nothing is sent elsewhere.
'use strict';

const TOAST_SECONDS = 10;
const DIMMED = 0.15; // of the opacity, for classes beside the one that is isolated

function refuse(sentence) {
  document.querySelectorAll('.refused').forEach((toast) => toast.remove());
  const toast = document.createElement('div');
  toast.className = 'refused';
  toast.setAttribute('role', 'alert');
  toast.textContent = sentence;
  document.body.append(toast);
  setTimeout(() => toast.remove(), 1000 * TOAST_SECONDS);
}

// Gradio's text fields take what is typed: their value, and an event that says so.
function type(selector, text) {
  const field = document.querySelector(`${selector} textarea, ${selector} input`);
  field.value = text;
  field.dispatchEvent(new Event('input', { bubbles: true }));
}

function choose(task, name, preview) {
  const picker = document.querySelector(`.picker[data-task="${task}"]`);
  const image = picker.querySelector('.chosen');
  image.src = preview;
  image.hidden = false;
  type(`.upload-name.${task}`, name);
}

async function upload(picker, file) {
  const most = Number(picker.dataset.most);
  if (file.size > most) {
    refuse(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB, expected at most ${most / 1e6}`);
    return;
  }
  const form = new FormData();
  form.append('image', file);
  try {
    const response = await fetch('uploads', { method: 'POST', body: form });
    const answer = await response.json();
    if (response.ok) choose(picker.dataset.task, answer.name, answer.preview);
    else refuse(answer.error);
  } catch {
    refuse('the server cannot be reached');
  }
}

function load(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = address;
  });
}

function pixelsOf(image) {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

function rgbOf(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

// The tint of each class over the image; of one class alone where it is isolated.
async function showOverlay(overlay) {
  const { seen, indices, colours } = overlay.dataset;
  const [image, labels] = await Promise.all([load(seen), load(indices)]);
  const classes = pixelsOf(labels);
  const palette = new Map(
    Object.entries(JSON.parse(colours)).map(([index, colour]) => [Number(index), rgbOf(colour)]),
  );
  const canvas = overlay.querySelector('canvas');
  [canvas.width, canvas.height] = [labels.naturalWidth, labels.naturalHeight];
  const tint = new OffscreenCanvas(canvas.width, canvas.height);
  const slider = overlay.querySelector('.opacity input');

  function draw() {
    const pressed = overlay.querySelector('.legend [aria-pressed="true"]');
    const alone = pressed ? Number(pressed.dataset.index) : null;
    const pixels = new ImageData(canvas.width, canvas.height);
    for (let at = 0; at < classes.length; at += 4) {
      const index = classes[at];
      const share = alone === null || alone === index ? 1 : DIMMED;
      pixels.data.set(palette.get(index), at);
      pixels.data[at + 3] = 255 * share * (slider.value / 100);
    }
    tint.getContext('2d').putImageData(pixels, 0, 0);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    context.drawImage(tint, 0, 0);
    overlay.dataset.drawn = `${alone ?? 'all'} ${slider.value}`;
  }

  slider.addEventListener('input', draw);
  overlay.querySelector('.legend').addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (!button) return;
    const pressed = button.getAttribute('aria-pressed') === 'true';
    overlay.querySelectorAll('.legend button').forEach((other) => {
      other.setAttribute('aria-pressed', String(other === button && !pressed));
    });
    draw();
  });
  draw();
}

document.addEventListener('change', (event) => {
  const picker = event.target.closest('.picker');
  if (!picker || !event.target.files.length) return;
  upload(picker, event.target.files[0]);
  event.target.value = '';
});

document.addEventListener('click', (event) => {
  const view = event.target.closest('.view');
  if (view) view.href = view.closest('figure').querySelector('canvas').toDataURL('image/png');
  const example = event.target.closest('.example');
  if (!example) return;
  const { task, name, prompt } = example.dataset;
  choose(task, name, example.querySelector('img').src);
  if (prompt) type(`.prompt.${task}`, prompt);
});

for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    const picker = event.target.closest('.picker');
    if (!picker) return;
    event.preventDefault();
    picker.classList.toggle('over', kind === 'dragover');
    if (kind === 'drop' && event.dataTransfer.files.length) {
      upload(picker, event.dataTransfer.files[0]);
    }
  });
}

new MutationObserver(() => {
  document.querySelectorAll('.overlay:not([data-shown])').forEach((overlay) => {
    overlay.dataset.shown = '';
    showOverlay(overlay).catch(() => refuse('the result is no longer kept here; please run again'));
  });
}).observe(document.documentElement, { childList: true, subtree: true });
