/** Kinds of parameter. Each has a default, bounds and a sentence. */
import { z } from 'zod';

/** Microseconds, up to a second. */
export const us = (fallback: number, text: string) =>
  z.number().min(0).max(1_000_000).default(fallback).describe(text);

export const percent = (fallback: number, text: string) =>
  z.number().min(0).max(100).default(fallback).describe(text);

export const whole = (from: number, to: number, fallback: number, text: string) =>
  z.number().int().min(from).max(to).default(fallback).describe(text);
