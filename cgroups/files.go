package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// statSize is what is read of a file of figures at once: the longest, memory.stat, is not half as long.
const statSize = 8 << 10

// readText reads a file of the kernel. It does without what os.ReadFile asks of every file, for figures are read from many.
func readText(file string, buffer []byte) (text []byte, err error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	for len(text) < len(buffer) {
		n, err := unix.Read(fd, buffer[len(text):])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: file, Err: err}
		case n == 0:
			return text, nil
		default:
			text = buffer[:len(text)+n]
		}
	}
	return text, nil
}

// readNumber reads a file that holds one number.
func readNumber(file string) (uint64, error) {
	word, err := readWord(file)
	if err != nil {
		return 0, err
	}
	return number(file, word)
}

// readInto is the same for a file that may say max, too.
func readInto(file string, to *uint64) error {
	word, err := readWord(file)
	if err != nil {
		return err
	}
	if *to = math.MaxUint64; word != "max" {
		*to, err = number(file, word)
	}
	return err
}

func readWord(file string) (string, error) {
	var buffer [64]byte
	text, err := readText(file, buffer[:])
	return strings.TrimSpace(string(text)), err
}

// number is what a word in a file says.
func number(file, word string) (uint64, error) {
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", file, err)
	}
	return n, nil
}

// readKeys reads numbers from a file of lines "key number". What is not there stays as it is.
func readKeys(file string, to map[string]*uint64) error {
	var buffer [statSize]byte
	text, err := readText(file, buffer[:])
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		key, number, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		into, asked := to[string(key)]
		if !asked {
			continue
		}
		if *into, err = strconv.ParseUint(string(number), 10, 64); err != nil {
			return fmt.Errorf("parse %s in %s: %w", key, file, err)
		}
	}
	return nil
}

// readKey reads one of these numbers, which must be there. None is as large as there could be one.
func readKey(file, key string) (uint64, error) {
	n := uint64(math.MaxUint64)
	if err := readKeys(file, map[string]*uint64{key: &n}); err != nil {
		return 0, err
	}
	if n == math.MaxUint64 {
		return 0, fmt.Errorf("parse %s: no line %q", file, key)
	}
	return n, nil
}

// gone says that a cgroup was removed, before or while its file was opened.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// write writes to a file of the kernel, which must exist.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
