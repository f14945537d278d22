// The pause process for arm64: see doc.go for what it does. No libc, nothing that is writable but its stack.
#include "pause.h"

	.globl	_start
_start:						// nothing but what is called below, from here on
	mov	x8, #SYS_prctl
	mov	x0, #PR_SET_SECCOMP
	mov	x1, #SECCOMP_MODE_FILTER
	adr	x2, program
	svc	#0
	cbnz	x0, fail
	mov	x8, #SYS_rt_sigprocmask		// blocked signals are queued even for PID 1
	mov	x0, #0				// SIG_BLOCK
	adr	x1, signals
	mov	x2, #0
	mov	x3, #8
	svc	#0
	mov	x8, #SYS_read			// held until a byte comes; the end is that of who would have sent it
	mov	x0, #0
	sub	x1, sp, #16
	mov	x2, #1
	svc	#0
	cmp	x0, #1
	b.ne	fail
	mov	x8, #SYS_close
	mov	x0, #0
	svc	#0
reap:						// bury children, the adopted ones too
	mov	x8, #SYS_wait4
	mov	x0, #-1
	mov	x1, #0
	mov	x2, #WNOHANG
	mov	x3, #0
	svc	#0
	cmp	x0, #0
	b.gt	reap
wait:
	mov	x8, #SYS_rt_sigtimedwait
	adr	x0, signals
	mov	x1, #0
	mov	x2, #0				// for ever
	mov	x3, #8
	svc	#0
	cmp	x0, #SIGCHLD
	b.eq	reap
	cmp	x0, #SIGTERM
	b.eq	done
	cmp	x0, #SIGINT
	b.ne	wait
done:
	mov	x0, #0
	b	exit
fail:
	mov	x0, #1
exit:
	mov	x8, #SYS_exit_group
	svc	#0

	.balign	8
signals:
	.quad	SIGNALS
program:
	.short	FILTER_LENGTH, 0, 0, 0
	.quad	filter
filter:
	FILTER
