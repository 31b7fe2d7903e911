"""uThreads of a hosted guest, for gdb: in a process, or in its core file.

    gdb -x guest-libos/gdb/fluxos.py ...
    (gdb) info uthreads            number, state, vCPU, name, and where each of them is
    (gdb) uthread 3 bt             the frames of one of them
    (gdb) uthread all bt           those of all that are in use

A uThread that runs is a frame of its vCPU's thread, and `uthread N bt` is gdb's own. The others have no
thread: their frames are followed by frame pointers, which all code of a guest has.

Nothing here needs debug information: see libos/src/debugger.rs and hosted/src/debugger.rs.
"""

import struct

import gdb

# The kick is a signal; without this, gdb would stop at each.
KICK = "SIGUSR2"
gdb.execute(f"handle {KICK} nostop noprint pass", to_string=True)

FREE, QUEUED, RUNNING, BLOCKED = range(4)
PLACES = {FREE: "free", QUEUED: "runnable", RUNNING: "running", BLOCKED: "blocked"}
GUARD = 4096
# What `switch` leaves at a saved stack pointer: control words, r15, r14, r13, r12, rbx, rbp, return address.
SAVED_RBP, SAVED_RIP, SAVED_BYTES = 48, 56, 64
GREG_RBP, GREG_RSP, GREG_RIP = 10, 15, 16
DEEPEST = 200
NO_PROCESS = "there is no process yet; run the guest first, or attach to one"


class NotThere(gdb.GdbError):
    pass


def memory(at, size):
    return bytes(gdb.selected_inferior().read_memory(at, size))


def words(at, count):
    return struct.unpack(f"<{count}Q", memory(at, 8 * count))


def word32(at):
    return struct.unpack("<I", memory(at, 4))[0]


def address(symbol):
    # In Rust's syntax, that of the selected frame, this cannot be said of a symbol without a type.
    text = gdb.execute(f"with language c -- output/x (long)&{symbol}", to_string=True)
    return int(text, 16)


class Table:
    """A static of the program's: 64-bit words, the first of which is a version."""

    def __init__(self, symbol, *names):
        try:
            at = address(symbol)
        except gdb.error:
            raise NotThere(f"no symbol {symbol}: this program is no hosted guest, or has been stripped")
        try:
            version, *values = words(at, 1 + len(names))
        except gdb.MemoryError:
            raise NotThere(NO_PROCESS)
        if version != 1:
            raise NotThere(f"{symbol} is version {version}; use the fluxos.py of the same release")
        self.__dict__.update(zip(names, values))


class Guest:
    def __init__(self):
        self.guest = Table(
            "FLUX_DEBUGGER",
            *("uthreads", "count", "bytes", "rsp", "place", "name", "stack_top"),
            *("locals", "vcpus", "local_bytes", "current", "block"),
        )
        self.host = Table(
            "FLUX_DEBUGGER_HOSTED", "cpus", "bytes", "in_guest", "guest", "frame", "registers"
        )
        if self.guest.uthreads == 0 or self.guest.locals == 0:
            # Without a process gdb reads the file, in which all of it is 0.
            if not gdb.selected_inferior().pid:
                raise NotThere(NO_PROCESS)
            raise NotThere("the guest has not booted yet; let it go on for a moment")
        self.on = {}
        for vcpu in range(self.guest.vcpus):
            local = self.guest.locals + vcpu * self.guest.local_bytes
            self.on[word32(local + self.guest.current)] = vcpu

    def all(self):
        for number in range(1, self.guest.count + 1):
            uthread = UThread(self, number)
            if uthread.place != FREE:
                yield uthread

    def numbered(self, text):
        try:
            number = int(text, 0)
        except ValueError:
            raise gdb.GdbError(f'"{text}" is no number of a uThread; see info uthreads')
        if not 1 <= number <= self.guest.count:
            raise gdb.GdbError(f"there is no uThread {number}; see info uthreads")
        return UThread(self, number)

    def thread_of(self, vcpu):
        """The thread that a vCPU is: GS base is the vCPU's block."""
        (block,) = words(
            self.guest.locals + vcpu * self.guest.local_bytes + self.guest.block, 1
        )
        before = gdb.selected_thread()
        try:
            for thread in gdb.selected_inferior().threads():
                thread.switch()
                if int(gdb.newest_frame().read_register("gs_base")) == block:
                    return thread
        finally:
            if before is not None:
                before.switch()
        return None


class UThread:
    def __init__(self, guest, number):
        self.guest, self.number = guest, number
        table = guest.guest
        at = table.uthreads + (number - 1) * table.bytes
        self.place = word32(at + table.place)
        self.name = memory(at + table.name, 16).split(b"\0")[0].decode(errors="replace")
        (self.rsp,) = words(at + table.rsp, 1)
        (self.stack_top,) = words(at + table.stack_top, 1)
        self.vcpu = guest.on.get(number)

    def state(self):
        """In a word, and on which vCPU."""
        if self.place != RUNNING or self.vcpu is None:
            return PLACES.get(self.place, "broken"), None
        in_guest, frame = self.cpu()[:2]
        if in_guest:
            return "running", self.vcpu
        return ("interrupted" if frame else "at a door"), self.vcpu

    def cpu(self):
        host = self.guest.host
        at = host.cpus + self.vcpu * host.bytes
        (saved,) = words(at + host.guest, 1)
        (frame,) = words(at + host.frame, 1)
        return memory(at + host.in_guest, 1)[0], frame, saved

    def context(self):
        """Instruction pointer and frame pointer; None if it runs on its vCPU's thread."""
        rsp = self.rsp
        if self.place == RUNNING and self.vcpu is not None:
            in_guest, frame, saved = self.cpu()
            if in_guest:
                return None
            if frame:
                registers = words(frame + self.guest.host.registers, 17)
                return registers[GREG_RIP], registers[GREG_RBP], registers[GREG_RSP]
            rsp = saved
        rbp, rip = words(rsp + SAVED_RBP, 2)
        return rip, rbp, rsp + SAVED_BYTES

    def frames(self):
        """Code addresses, the innermost first; None as above. Nothing outside of the stack is believed."""
        context = self.context()
        if context is None:
            return None
        rip, rbp, low = context
        found = [rip]
        while len(found) < DEEPEST and rbp % 8 == 0 and low <= rbp and rbp - low < 1 << 20:
            try:
                above, rip = words(rbp, 2)
            except gdb.MemoryError:
                break
            if rip == 0:
                break
            found.append(rip)
            low, rbp = rbp + 16, above
        return found

    def where(self):
        frames = self.frames()
        if frames is not None:
            # Who waits is in FluxOS; who called FluxOS is of more interest.
            inner = ("arch::", "libos::")
            named = [name for depth, at in enumerate(frames) for name in functions(at, depth)]
            return next((name for name in named if not name.startswith(inner)), named[0])
        thread = self.guest.thread_of(self.vcpu)
        if thread is None:
            return "?"
        before = gdb.selected_thread()
        thread.switch()
        try:
            return gdb.newest_frame().name() or "?"
        finally:
            before.switch()

    def backtrace(self):
        name = f' "{self.name}"' if self.name else ""
        state, vcpu = self.state()
        on = "" if vcpu is None else f", vCPU {vcpu}"
        print(f"uThread {self.number}{name}, {state}{on}")
        if self.place == FREE:
            return
        frames = self.frames()
        if frames is not None:
            for depth, at in enumerate(frames):
                inner, *outer = functions(at, depth)
                print(f"#{depth:<3}{at:#018x} in {inner}{line(at, depth)}")
                for name in outer:
                    print(f"    {'inlined':>18} in {name}")
            return
        thread = self.guest.thread_of(self.vcpu)
        if thread is None:
            raise gdb.GdbError(f"no thread is vCPU {self.vcpu}: it has ended")
        before = gdb.selected_thread()
        thread.switch()
        try:
            gdb.execute("backtrace")
        finally:
            before.switch()


def function(at):
    # A return address may lie behind its function, if that call never returns.
    text = gdb.execute(f"info symbol {at - 1:#x}", to_string=True)
    if text.startswith("No symbol"):
        return "??"
    name = text.split(" in section ")[0].rsplit(" + ", 1)[0]
    head, mark, hash_ = name.rpartition("::h")
    return head if mark and len(hash_) == 16 else name


def functions(at, depth):
    """The function at a code address, after those that are inlined there, as far as debug information tells."""
    block = gdb.block_for_pc(at if depth == 0 else at - 1)
    inlined = []
    while block is not None and not block.is_static and not block.is_global:
        if block.function is not None:
            inlined.append(block.function.print_name)
        block = block.superblock
    # The last one is the function itself, of which the symbol is the better name.
    return inlined[:-1] + [function(at)]


def line(at, depth):
    found = gdb.find_pc_line(at if depth == 0 else at - 1)
    return f" at {found.symtab.filename}:{found.line}" if found.symtab else ""


class InfoUthreads(gdb.Command):
    """The guest's uThreads: number, state, vCPU, name, and the innermost function that is not FluxOS's."""

    def __init__(self):
        super().__init__("info uthreads", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        count = 0
        print(f"{'uThread':>7}  {'state':<11}  {'vCPU':<4}  {'name':<15}  in")
        for uthread in Guest().all():
            state, vcpu = uthread.state()
            vcpu = "" if vcpu is None else vcpu
            print(f"{uthread.number:>7}  {state:<11}  {vcpu:<4}  {uthread.name:<15}  {uthread.where()}")
            count += 1
        print(f"{count} in use")


class OneUthread(gdb.Command):
    """uthread N bt: the frames of uThread N; uthread all bt: of all that are in use."""

    def __init__(self):
        super().__init__("uthread", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        which, *what = gdb.string_to_argv(argument) or [""]
        if what not in ([], ["bt"], ["backtrace"]):
            raise gdb.GdbError("usage: uthread N bt, or: uthread all bt")
        guest = Guest()
        if which == "all":
            for uthread in guest.all():
                uthread.backtrace()
                print()
        else:
            guest.numbered(which).backtrace()


InfoUthreads()
OneUthread()
