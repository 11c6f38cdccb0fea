/*
 * signals.h - signals by name, as kill(1) has them.
 */
#ifndef SIGNALS_H
#define SIGNALS_H

/* The signal that TEXT names, as TERM, SIGTERM, RTMIN+1 or 15; 0 if none. */
int signals_number(const char *text);

/* The name of SIGNAL without SIG; valid until the next call. */
const char *signals_name(int signal);

#endif
