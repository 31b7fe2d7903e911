// The Go rival of `hyperflux bench uthreads`.
//
// It reads one command a line, "<row> <samples> <ops>", and answers with one line: "ok" and the
// nanoseconds of each sample, or "no" and why. GOMAXPROCS is the number of cores that the process
// may use, as Go has it by itself.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

const samplesMax = 4096

// Each takes a number of operations and returns the nanoseconds of all of them together.
var rows = map[string]func(ops int) int64{
	"floor":     rowFloor,
	"clock":     rowClock,
	"spawn":     rowSpawn,
	"yield":     rowYield,
	"fan":       rowFan,
	"mutex":     rowMutex,
	"condvar":   rowCondvar,
	"wake":      rowWake,
	"semaphore": rowSemaphore,
	"baton":     rowBaton,
	"steal":     rowSteal,
	"timed":     rowTimed,
	"late":      rowLate,
	"sort":      rowSort,
}

var began = time.Now()

// Nanoseconds since the program began, by the monotonic clock.
func now() int64 {
	return int64(time.Since(began))
}

func answer(line string) string {
	var name string
	var samples, ops int
	if n, err := fmt.Sscan(line, &name, &samples, &ops); err != nil || n != 3 ||
		samples < 1 || samples > samplesMax || ops < 1 {
		return "no such command"
	}
	row := rows[name]
	if row == nil {
		return "no row of that name"
	}
	var text strings.Builder
	text.WriteString("ok")
	for i := 0; i < samples; i++ {
		fmt.Fprintf(&text, " %d", row(ops))
	}
	return text.String()
}

func main() {
	fmt.Printf("ready %s, GOMAXPROCS %d\n", runtime.Version(), runtime.GOMAXPROCS(0))
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(answer(in.Text()))
	}
}
