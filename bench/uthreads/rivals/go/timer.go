package main

import "time"

const sleepNs = 200_000

// Waits for the channel, but no longer than a second.
func waitASecond(of chan struct{}) {
	timer := time.NewTimer(time.Second)
	select {
	case <-of:
	case <-timer.C:
		panic("nobody came within a second")
	}
	timer.Stop()
}

// As the semaphore's ping-pong, but each of the two waits has a deadline of a second.
func rowTimed(ops int) int64 {
	there, back := make(chan struct{}, 1), make(chan struct{}, 1)
	go func() {
		for i := 0; i < ops; i++ {
			waitASecond(there)
			back <- struct{}{}
		}
	}()
	start := now()
	for i := 0; i < ops; i++ {
		there <- struct{}{}
		waitASecond(back)
	}
	return now() - start
}

// How late after it was due the goroutine goes on.
func rowLate(ops int) int64 {
	var total int64
	for i := 0; i < ops; i++ {
		due := now() + sleepNs
		time.Sleep(sleepNs)
		total += now() - due
	}
	return total
}
