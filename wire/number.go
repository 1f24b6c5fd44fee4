package wire

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

var (
	errNotInteger = errors.New("not an integer")
	errTooLarge   = errors.New("too large")
)

// numberLen returns the length of the JSON number that b starts with, 0 if there is none.
func numberLen(b []byte) int {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	default:
		n := digits(b[i:])
		if n == 0 {
			return 0
		}
		i += n
	}
	if i < len(b) && b[i] == '.' {
		n := digits(b[i+1:])
		if n == 0 {
			return 0
		}
		i += 1 + n
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		n := digits(b[i:])
		if n == 0 {
			return 0
		}
		i += n
	}
	return i
}

func digits(b []byte) int {
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	return n
}

// integer returns sign and magnitude of the JSON number lit if that is integral:
// 3, 3.0 and 0.3e1 are the same. The cost is linear in the literal, whatever its exponent.
func integer(lit []byte) (negative bool, magnitude uint64, err error) {
	if lit[0] == '-' {
		negative, lit = true, lit[1:]
	}
	if n := digits(lit); n < len(lit) {
		if lit, err = wholeDigits(lit, n); err != nil {
			return negative, 0, err
		}
	}
	for _, c := range lit {
		d := uint64(c - '0')
		if magnitude > (math.MaxUint64-d)/10 {
			return negative, 0, errTooLarge
		}
		magnitude = magnitude*10 + d
	}
	return negative, magnitude, nil
}

// wholeDigits writes an unsigned number with a fraction or an exponent as plain digits;
// whole is the number of its leading digits.
func wholeDigits(lit []byte, whole int) ([]byte, error) {
	mantissa, exponent, _ := bytes.Cut(bytes.ToLower(lit), []byte("e"))
	all := bytes.Clone(mantissa[:whole])
	shift := 0
	if whole < len(mantissa) {
		fraction := mantissa[whole+1:]
		all = append(all, fraction...)
		shift = -len(fraction)
	}
	all = bytes.TrimLeft(all, "0")
	if len(all) == 0 {
		return nil, nil
	}
	if len(exponent) > 0 {
		// Atoi saturates; then the number is far out of range or far from integral.
		// A quarter of the range leaves room for the sum below.
		e, _ := strconv.Atoi(string(exponent))
		shift += min(max(e, math.MinInt/4), math.MaxInt/4)
	}
	significant := bytes.TrimRight(all, "0")
	shift += len(all) - len(significant)
	switch {
	case shift < 0:
		return nil, errNotInteger
	case shift > 20: // 2^64 has 20 digits
		return nil, errTooLarge
	}
	return append(significant, bytes.Repeat([]byte("0"), shift)...), nil
}

// signed returns lit as an integer of so many bits.
func signed(lit []byte, bits int) (int64, error) {
	negative, magnitude, err := integer(lit)
	if err != nil {
		return 0, err
	}
	limit := uint64(1) << (bits - 1) // the magnitude of the smallest
	switch {
	case negative && magnitude <= limit:
		return -int64(magnitude), nil
	case !negative && magnitude < limit:
		return int64(magnitude), nil
	}
	return 0, errTooLarge
}

// unsigned returns lit as an unsigned integer of so many bits.
func unsigned(lit []byte, bits int) (uint64, error) {
	negative, magnitude, err := integer(lit)
	switch {
	case err != nil:
		return 0, err
	case negative && magnitude > 0, bits < 64 && magnitude>>bits != 0:
		return 0, errTooLarge
	}
	return magnitude, nil
}
