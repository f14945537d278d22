// The pause process for arm64: see pause.go for what it does. No libc, no stack use, no writable memory.
#include "pause.h"

	.globl	_start
_start:
	ldr	x19, [sp]			// argc
	add	x20, sp, #16			// &argv[1]
hold:						// open every argument, and keep it open
	subs	x19, x19, #1
	b.le	block
	mov	x8, #SYS_openat
	mov	x0, #AT_FDCWD
	ldr	x1, [x20], #8
	ldr	x2, flags
	svc	#0
	b	hold
block:						// blocked signals are queued even for PID 1
	mov	x8, #SYS_rt_sigprocmask
	mov	x0, #0				// SIG_BLOCK
	adr	x1, signals
	mov	x2, #0
	mov	x3, #8
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
	mov	x8, #SYS_exit_group
	mov	x0, #0
	svc	#0

	.balign	8
signals:
	.quad	SIGNALS
flags:
	.quad	(O_RDWR | O_NONBLOCK | O_CLOEXEC)
