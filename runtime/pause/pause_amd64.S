// The pause process for amd64: see pause.go for what it does. No libc, no stack use, no writable memory.
#include "pause.h"

	.globl	_start
_start:
	mov	(%rsp), %r12d			// argc
	lea	16(%rsp), %r13			// &argv[1]
hold:						// open every argument, and keep it open
	dec	%r12d
	jle	block
	mov	$SYS_openat, %eax
	mov	$AT_FDCWD, %edi
	mov	(%r13), %rsi
	mov	$(O_RDWR | O_NONBLOCK | O_CLOEXEC), %edx
	syscall
	add	$8, %r13
	jmp	hold
block:						// blocked signals are queued even for PID 1
	mov	$SYS_rt_sigprocmask, %eax
	xor	%edi, %edi			// SIG_BLOCK
	lea	signals(%rip), %rsi
	xor	%edx, %edx
	mov	$8, %r10d
	syscall
reap:						// bury children, the adopted ones too
	mov	$SYS_wait4, %eax
	mov	$-1, %rdi
	xor	%esi, %esi
	mov	$WNOHANG, %edx
	xor	%r10d, %r10d
	syscall
	test	%eax, %eax
	jg	reap
wait:
	mov	$SYS_rt_sigtimedwait, %eax
	lea	signals(%rip), %rdi
	xor	%esi, %esi
	xor	%edx, %edx			// for ever
	mov	$8, %r10d
	syscall
	cmp	$SIGCHLD, %eax
	je	reap
	cmp	$SIGTERM, %eax
	je	done
	cmp	$SIGINT, %eax
	jne	wait
done:
	mov	$SYS_exit_group, %eax
	xor	%edi, %edi
	syscall

	.balign	8
signals:
	.quad	SIGNALS
