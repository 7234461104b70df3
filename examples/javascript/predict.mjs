// Score images with an exported model. Needs onnxruntime-node; no ganomaly, no Python.
//
// node predict.mjs MODEL.onnx [--threshold T] IMAGE.pgm...    print path, score, p-value and verdict, separated by tabs
//
// Images are binary PGM (gray) or PPM (colour), of 8 or 16 bits.

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';

import { InferenceSession, Tensor } from 'onnxruntime-node';

const GAP = String.raw`(?:\s|#[^\n]*\n)+`; // white space and comments
const HEADER = new RegExp(String.raw`^P([56])${GAP}(\d+)${GAP}(\d+)${GAP}(\d+)\s`);

// Pixels as the model takes them: uint8 or uint16 [1, H, W, C].
async function readImage(path) {
  const file = await readFile(path);
  const header = HEADER.exec(file.toString('latin1', 0, 4096));
  if (!header) throw new Error('it is neither binary PGM nor PPM');
  const channels = header[1] === '5' ? 1 : 3;
  const [width, height, maxValue] = header.slice(2).map(Number);
  if (maxValue < 255 || maxValue > 65535) throw new Error('it has neither 8 nor 16 bits');
  const has16Bits = maxValue > 255;
  const samples = height * width * channels;
  const start = header[0].length;
  const end = start + samples * (has16Bits ? 2 : 1);
  if (samples === 0 || file.length < end) throw new Error('it ends too early');
  const bytes = file.subarray(start, end);
  const dims = [1, height, width, channels];
  if (!has16Bits) return new Tensor('uint8', new Uint8Array(bytes), dims);
  // the file has the high byte first
  return new Tensor('uint16', Uint16Array.from({ length: samples }, (_, i) => bytes.readUInt16BE(2 * i)), dims);
}

function checkFits(image, input) {
  const [channels, expected] = [image.dims[3], input.shape[3]];
  if (channels !== expected || image.type !== input.type) {
    throw new Error(`it has ${channels} channels of ${image.type}, but the model takes ${expected} of ${input.type}`);
  }
}

const { values, positionals } = parseArgs({ options: { threshold: { type: 'string' } }, allowPositionals: true });
const [modelPath, ...imagePaths] = positionals;
// onnxruntime-node does not pass the input `threshold` on, so another threshold is applied to the score here
const threshold = values.threshold === undefined ? undefined : Math.fround(Number(values.threshold));
if (imagePaths.length === 0 || Number.isNaN(threshold)) {
  console.error('usage: node predict.mjs MODEL.onnx [--threshold T] IMAGE.pgm...');
  process.exit(2);
}

// errors; not the harmless warning that the threshold can be overridden
const session = await InferenceSession.create(modelPath, { executionProviders: ['cpu'], logSeverityLevel: 3 });
for (const path of imagePaths) {
  let image;
  try {
    image = await readImage(path);
    checkFits(image, session.inputMetadata[0]);
  } catch (error) {
    console.error(`${path}: ${error.message}`);
    process.exitCode = 3;
    continue;
  }
  const outputs = await session.run({ image }, ['score', 'p_value', 'is_anomaly']);
  const score = outputs.score.data[0];
  const isAnomaly = threshold === undefined ? outputs.is_anomaly.data[0] === 1 : score > threshold;
  const verdict = isAnomaly ? 'anomalous' : 'normal';
  console.log([path, score.toPrecision(6), outputs.p_value.data[0].toPrecision(6), verdict].join('\t'));
}
