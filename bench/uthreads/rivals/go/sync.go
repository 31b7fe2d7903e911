package main

import (
	"sync"
	"sync/atomic"
)

// How long a waiter is left to itself before it is woken, so that it really waits.
const settleNs = 2000

func settle() {
	for until := now() + settleNs; now() < until; {
	}
}

var (
	lock    sync.Mutex
	counter uint64
)

func rowMutex(ops int) int64 {
	start := now()
	for i := 0; i < ops; i++ {
		lock.Lock()
		counter++
		lock.Unlock()
	}
	return now() - start
}

type table struct {
	lock   sync.Mutex
	turned [2]*sync.Cond
	turn   int
	rounds int
}

func (t *table) play(me int) {
	t.lock.Lock()
	for i := 0; i < t.rounds; i++ {
		for t.turn != me {
			t.turned[me].Wait()
		}
		t.turn = 1 - me
		t.turned[1-me].Signal()
	}
	t.lock.Unlock()
}

// An operation is a round trip: two signals, two waits.
func rowCondvar(ops int) int64 {
	t := &table{turn: 1, rounds: ops}
	t.turned = [2]*sync.Cond{sync.NewCond(&t.lock), sync.NewCond(&t.lock)}
	done := make(chan struct{})
	go func() {
		t.play(1)
		close(done)
	}()
	start := now()
	// The other one begins.
	t.play(0)
	start = now() - start
	<-done
	return start
}

// From the signal to the woken goroutine's first look at the clock, while the one that signals
// keeps its thread: only another one can run what was woken.
func rowWake(ops int) int64 {
	var mutex sync.Mutex
	woken := sync.NewCond(&mutex)
	turn := false
	var waits, ran, at, total int64
	done := make(chan struct{})
	go func() {
		for i := int64(1); i <= int64(ops); i++ {
			mutex.Lock()
			atomic.StoreInt64(&waits, i)
			for !turn {
				woken.Wait()
			}
			turn = false
			atomic.StoreInt64(&at, now())
			atomic.StoreInt64(&ran, i)
			mutex.Unlock()
		}
		close(done)
	}()
	for i := int64(1); i <= int64(ops); i++ {
		for atomic.LoadInt64(&waits) != i {
		}
		settle()
		mutex.Lock()
		turn = true
		mutex.Unlock()
		start := now()
		woken.Signal()
		for atomic.LoadInt64(&ran) != i {
		}
		total += atomic.LoadInt64(&at) - start
	}
	<-done
	return total
}

// Go's semaphore is a channel with room for as many as may hold it.
func rowSemaphore(ops int) int64 {
	sem := make(chan struct{}, 1)
	start := now()
	for i := 0; i < ops; i++ {
		sem <- struct{}{}
		<-sem
	}
	return now() - start
}

// An operation is a round trip: two posts, two waits that block.
func rowBaton(ops int) int64 {
	there, back := make(chan struct{}, 1), make(chan struct{}, 1)
	go func() {
		for i := 0; i < ops; i++ {
			<-there
			back <- struct{}{}
		}
	}()
	start := now()
	for i := 0; i < ops; i++ {
		there <- struct{}{}
		<-back
	}
	return now() - start
}

// Two goroutines are made ready, and their maker keeps its thread until the first of them has
// begun: from before the first is made to that.
func rowSteal(ops int) int64 {
	var total int64
	for i := 0; i < ops; i++ {
		var begun [2]int64
		var group sync.WaitGroup
		group.Add(2)
		start := now()
		for k := 0; k < 2; k++ {
			at := &begun[k]
			go func() {
				atomic.StoreInt64(at, now())
				group.Done()
			}()
		}
		for atomic.LoadInt64(&begun[0]) == 0 {
		}
		total += atomic.LoadInt64(&begun[0]) - start
		group.Wait()
		settle()
	}
	return total
}
