// One life of the official Go client; arguments: port, storage group, protocol. Prints "life complete".
package main

import (
	"fmt"
	"math"
	"os"

	"github.com/apache/iotdb-client-go/client"
)

// must takes what a call returned: its error, or in 0.13 a status and its error.
func must(results ...interface{}) {
	if err := results[len(results)-1]; err != nil {
		panic(err)
	}
}

func check(holds bool, what string) {
	if !holds {
		panic(what)
	}
	fmt.Println("ok", what)
}

var names = []string{"b", "i", "l", "f", "d", "t"}
var types = []client.TSDataType{client.BOOLEAN, client.INT32, client.INT64, client.FLOAT, client.DOUBLE, client.TEXT}

func main() {
	sg := os.Args[2]
	config := &client.Config{Host: "127.0.0.1", Port: os.Args[1], UserName: "root", Password: "root"}
	session := client.NewSession(config)
	must(session.Open(os.Args[3] == "compact", timeout))
	must(session.SetStorageGroup(sg))
	values := []interface{}{true, int32(math.MinInt32), int64(math.MinInt64), float32(1.5), 0.1, "测试"}
	must(session.InsertRecord(sg+".r", names, types, values, 1))
	must(session.InsertAlignedRecord(sg+".a", names, types, values, 1))
	must(session.InsertStringRecord(sg+".s", []string{"x"}, []string{"2.5"}, 1))
	for _, device := range []string{".r", ".a"} {
		data, err := session.ExecuteQueryStatement("select b, i, l, f, d, t from "+sg+device, nil)
		must(err)
		next, err := data.Next()
		must(err)
		check(next, "a row of "+device)
		path := sg + device + "."
		check(BOOL(data, path+"b"), "boolean")
		check(INT(data, path+"i") == math.MinInt32, "int32")
		check(LONG(data, path+"l") == math.MinInt64, "int64")
		check(FLOAT(data, path+"f") == 1.5, "float")
		check(DOUBLE(data, path+"d") == 0.1, "double")
		check(TEXT(data, path+"t") == "测试", "text")
		next, err = data.Next()
		must(err)
		check(!next, "end")
		data.Close()
	}
	for start := int64(0); start < 20000; start += 1000 {
		schemas := []*client.MeasurementSchema{{Measurement: "v", DataType: client.INT64}, {Measurement: "n", DataType: client.DOUBLE}}
		tablet, err := client.NewTablet(sg+".p", schemas, 1000)
		must(err)
		for n := 0; n < 1000; n++ {
			tablet.SetTimestamp(start+int64(n), n)
			must(tablet.SetValueAt(start+int64(n), 0, n))
			must(tablet.SetValueAt(0.5, 1, n))
		}
		fill(tablet, 1000)
		must(session.InsertTablet(tablet, true))
	}
	data, err := session.ExecuteQueryStatement("select v from "+sg+".p", nil)
	must(err)
	count := int64(0)
	for {
		next, err := data.Next()
		must(err)
		if !next {
			break
		}
		if LONG(data, sg+".p.v") != count {
			panic(count)
		}
		count++
	}
	check(count == 20000, "tablets and paging")
	data.Close()
	must(session.DeleteData([]string{sg + ".p.v"}, 0, 19989))
	data, err = session.ExecuteQueryStatement("select count(v) from "+sg+".p", nil)
	must(err)
	next, err := data.Next()
	must(err)
	check(next && LONG(data, "count("+sg+".p.v)") == 10, "delete")
	data.Close()
	zone, err := session.GetTimeZone()
	must(err)
	check(zone != "", "time zone")
	must(session.DeleteTimeseries([]string{sg + ".p.n"}))
	must(session.DeleteStorageGroup(sg))
	must(session.Close())
	fmt.Println("life complete")
}
