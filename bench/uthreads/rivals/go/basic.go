package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const parts = 64

//go:noinline
func empty() {}

func rowFloor(ops int) int64 {
	start := now()
	for i := 0; i < ops; i++ {
		empty()
	}
	return now() - start
}

func rowClock(ops int) int64 {
	start := now()
	last := start
	for i := 0; i < ops; i++ {
		last = now()
	}
	return last - start
}

func rowSpawn(ops int) int64 {
	var counter int64
	var group sync.WaitGroup
	start := now()
	for i := 0; i < ops; i++ {
		group.Add(1)
		go func() {
			atomic.AddInt64(&counter, 1)
			group.Done()
		}()
		group.Wait()
	}
	start = now() - start
	if counter != int64(ops) {
		panic("a goroutine did not run")
	}
	return start
}

func rowFan(ops int) int64 {
	var counter int64
	var group sync.WaitGroup
	start := now()
	for i := 0; i < ops; i++ {
		group.Add(parts)
		for part := 0; part < parts; part++ {
			go func() {
				atomic.AddInt64(&counter, 1)
				group.Done()
			}()
		}
		group.Wait()
	}
	start = now() - start
	if counter != int64(ops)*parts {
		panic("a goroutine did not run")
	}
	return start
}

// Two goroutines give way in turns; half of the operations each.
func rowYield(ops int) int64 {
	var ready int32
	turns := ops / 2
	done := make(chan struct{})
	go func() {
		atomic.StoreInt32(&ready, 1)
		for i := 0; i < turns; i++ {
			runtime.Gosched()
		}
		close(done)
	}()
	for atomic.LoadInt32(&ready) == 0 {
		runtime.Gosched()
	}
	start := now()
	for i := 0; i < turns; i++ {
		runtime.Gosched()
	}
	start = now() - start
	<-done
	return start
}
