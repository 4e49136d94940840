// `berth`, the command line: docker's verbs and flags, spoken to a daemon of the Docker Engine API, Berth's or another.
//
// One table of commands (commands.c), each with tables of flags (flags_*.c); help, manual page, completion, "did you mean", the parser
// and what goes into requests read the same rows. A row that the API can't carry says why and is refused by name.
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

// The program: the exit code.
int client_main(int argc, char **argv);

#endif
