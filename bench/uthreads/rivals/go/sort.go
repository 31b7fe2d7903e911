package main

import "sync"

const (
	cutoff    = 8192
	insertion = 24
)

// Hoare's partition around the median of three; both parts are smaller than v.
func partition(v []uint32) int {
	n := len(v)
	i, j := 0, n-1
	if v[n/2] < v[0] {
		v[n/2], v[0] = v[0], v[n/2]
	}
	if v[n-1] < v[0] {
		v[n-1], v[0] = v[0], v[n-1]
	}
	if v[n-1] < v[n/2] {
		v[n-1], v[n/2] = v[n/2], v[n-1]
	}
	pivot := v[n/2]
	for {
		for i++; v[i] < pivot; i++ {
		}
		for j--; v[j] > pivot; j-- {
		}
		if i >= j {
			return j + 1
		}
		v[i], v[j] = v[j], v[i]
	}
}

func insertionSort(v []uint32) {
	for i := 1; i < len(v); i++ {
		x := v[i]
		j := i
		for ; j > 0 && v[j-1] > x; j-- {
			v[j] = v[j-1]
		}
		v[j] = x
	}
}

func sortHere(v []uint32) {
	for len(v) > insertion {
		left := partition(v)
		if left < len(v)-left {
			sortHere(v[:left])
			v = v[left:]
		} else {
			sortHere(v[left:])
			v = v[:left]
		}
	}
	insertionSort(v)
}

// What is large is parted; the left part becomes a goroutine.
func sortParts(v []uint32, group *sync.WaitGroup) {
	for len(v) > cutoff {
		left := partition(v)
		part := v[:left]
		group.Add(1)
		go func() {
			sortParts(part, group)
			group.Done()
		}()
		v = v[left:]
	}
	sortHere(v)
}

var data []uint32

func fill(n int) {
	if len(data) < n {
		data = make([]uint32, n)
	}
	x := uint64(0x9e3779b97f4a7c15)
	for i := range data[:n] {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = uint32(x >> 32)
	}
}

// ops is how many numbers are sorted.
func rowSort(ops int) int64 {
	fill(ops)
	v := data[:ops]
	start := now()
	var group sync.WaitGroup
	sortParts(v, &group)
	group.Wait()
	start = now() - start
	for i := 1; i < len(v); i++ {
		if v[i-1] > v[i] {
			panic("the numbers are not sorted")
		}
	}
	return start
}
