// go-server [ADDRESS:]PORT: answers every HTTP request with the server's process id.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(answer, "client %s, server pid %d\n", request.RemoteAddr, os.Getpid())
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
	os.Exit(1)
}
