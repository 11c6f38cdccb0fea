/*
 * http.h - as much of HTTP/1.1 as the servers and the loads of the tests take.
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char http_request[] = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/* Writes a whole answer with BODY to TEXT, of SIZE octets; returns its length. */
static inline size_t http_answer(char *text, size_t size, const char *body) {
    int length = snprintf(text, size,
                          "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                          "Connection: close\r\n\r\n%s",
                          strlen(body), body);
    return (size_t)length;
}

/* Returns the body of the answer TEXT; NULL if it is not whole, or not a good one. */
static inline const char *http_body(const char *text) {
    const char *body = strstr(text, "\r\n\r\n"), *length = strstr(text, "Content-Length: ");
    bool whole = strncmp(text, "HTTP/1.1 200 ", 13) == 0 && body && length &&
                 strlen(body + 4) == strtoul(length + 16, NULL, 10);
    return whole ? body + 4 : NULL;
}

#endif
