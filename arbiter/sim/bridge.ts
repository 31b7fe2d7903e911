/**
 * A bridge whose hand-overs take time. The protocol is that of bridge/sim.ts, word
 * for word; what is added is that the guests hear of what they are asked and granted,
 * and act upon it when their time has come.
 */
import { SimBridge } from '../bridge/sim.ts';

/** What the guests hear. */
export interface Listener {
  /** The vCPU has this core from now on. */
  granted(handle: number, core: number): void;
  /** The vCPU is to leave this core. */
  asked(handle: number, core: number): void;
}

export class TimedBridge extends SimBridge {
  #listener: Listener = { granted() {}, asked() {} };
  #leaving = 0;

  listen(listener: Listener): void {
    this.#listener = listener;
  }

  override poll(): number {
    return this.#leaving;
  }

  /** The vCPU that was asked has left. */
  settled(): void {
    this.#leaving--;
  }

  protected override deliver(handle: number, core: number): void {
    super.deliver(handle, core);
    this.#listener.granted(handle, core);
  }

  protected override ask(from: number, core: number): void {
    super.ask(from, core);
    this.#leaving++;
    this.#listener.asked(from, core);
  }
}
