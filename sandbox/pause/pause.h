// Linux's numbers for the pause process, and the filter of its system calls.
#define WNOHANG             1
#define SIGINT              2
#define SIGTERM             15
#define SIGCHLD             17
#define SIGNALS             ((1 << (SIGINT - 1)) | (1 << (SIGTERM - 1)) | (1 << (SIGCHLD - 1)))
#define PR_SET_SECCOMP      22
#define SECCOMP_MODE_FILTER 2

#if defined(__x86_64__)
#define SYS_read            0
#define SYS_close           3
#define SYS_rt_sigprocmask  14
#define SYS_wait4           61
#define SYS_rt_sigtimedwait 128
#define SYS_prctl           157
#define SYS_exit_group      231
#define AUDIT_ARCH          0xc000003e
#elif defined(__aarch64__)
#define SYS_close           57
#define SYS_read            63
#define SYS_exit_group      94
#define SYS_rt_sigprocmask  135
#define SYS_rt_sigtimedwait 137
#define SYS_prctl           167
#define SYS_wait4           260
#define AUDIT_ARCH          0xc00000b7
#endif

// Instructions of the kernel's packet filter. Jumps skip so many instructions where the value is k, or is not.
#define LOAD(offset)              .short 0x20; .byte 0, 0; .long offset
#define JUMP_IF(k, equal, unlike) .short 0x15; .byte equal, unlike; .long k
#define RETURN(verdict)           .short 0x06; .byte 0, 0; .long verdict
#define ALLOW                     0x7fff0000
#define KILL_PROCESS              0x80000000

// All that the pause process calls once the filter is in force: of struct seccomp_data, nr is at 0 and arch at 4.
#define FILTER_LENGTH 11
#define FILTER \
	LOAD(4); \
	JUMP_IF(AUDIT_ARCH, 0, 7); \
	LOAD(0); \
	JUMP_IF(SYS_read, 6, 0); \
	JUMP_IF(SYS_close, 5, 0); \
	JUMP_IF(SYS_rt_sigprocmask, 4, 0); \
	JUMP_IF(SYS_wait4, 3, 0); \
	JUMP_IF(SYS_rt_sigtimedwait, 2, 0); \
	JUMP_IF(SYS_exit_group, 1, 0); \
	RETURN(KILL_PROCESS); \
	RETURN(ALLOW)
